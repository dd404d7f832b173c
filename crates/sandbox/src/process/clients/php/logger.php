<?php

// The logger of PHP functions: methods and levels of PSR-3, lines as the function's log has them (Lambda:
// LoggingConfig). Of a log of JSON each is an object with time, level and request; what its level hides is not written.
declare(strict_types=1);

namespace Virga;

class Logger
{
    /** PSR-3's levels as Lambda's, in Lambda's order. */
    private const LEVELS = [
        'debug' => 'DEBUG', 'info' => 'INFO', 'notice' => 'INFO', 'warning' => 'WARN', 'error' => 'ERROR',
        'critical' => 'FATAL', 'alert' => 'FATAL', 'emergency' => 'FATAL',
    ];
    private const ORDER = ['TRACE' => 0, 'DEBUG' => 1, 'INFO' => 2, 'WARN' => 3, 'ERROR' => 4, 'FATAL' => 5];
    private const JSON = JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE
        | JSON_PARTIAL_OUTPUT_ON_ERROR;

    /** One that is a Psr\Log\LoggerInterface where the function has that. */
    public static function make(): self
    {
        if (!interface_exists('Psr\Log\LoggerInterface')) {
            return new self();
        }
        return new class () extends Logger implements \Psr\Log\LoggerInterface {
        };
    }

    /** Whether the function's log is one of JSON. */
    public static function isJson(): bool
    {
        return getenv('AWS_LAMBDA_LOG_FORMAT') === 'JSON';
    }

    public function emergency($message, array $context = []): void
    {
        $this->log('emergency', $message, $context);
    }

    public function alert($message, array $context = []): void
    {
        $this->log('alert', $message, $context);
    }

    public function critical($message, array $context = []): void
    {
        $this->log('critical', $message, $context);
    }

    public function error($message, array $context = []): void
    {
        $this->log('error', $message, $context);
    }

    public function warning($message, array $context = []): void
    {
        $this->log('warning', $message, $context);
    }

    public function notice($message, array $context = []): void
    {
        $this->log('notice', $message, $context);
    }

    public function info($message, array $context = []): void
    {
        $this->log('info', $message, $context);
    }

    public function debug($message, array $context = []): void
    {
        $this->log('debug', $message, $context);
    }

    public function log($level, $message, array $context = []): void
    {
        $named = self::LEVELS[is_string($level) ? $level : ''] ?? null;
        if ($named === null) {
            $error = class_exists('Psr\Log\InvalidArgumentException')
                ? 'Psr\Log\InvalidArgumentException' : \InvalidArgumentException::class;
            throw new $error('no level of PSR-3: ' . (is_string($level) ? $level : get_debug_type($level)));
        }
        $text = self::interpolated((string) $message, $context);
        $thrown = ($context['exception'] ?? null) instanceof \Throwable ? $context['exception'] : null;
        if (self::isJson()) {
            unset($context['exception']);
            $error = $thrown === null ? [] : Runtime::described($thrown);
            self::entry($named, ['message' => $text] + $error + $context);
            return;
        }
        $id = Runtime::requestId();
        $head = self::time() . "\t" . ($id === null ? '' : "$id\t") . "$named\t";
        Runtime::write($head . $text . ($thrown === null ? '' : "\n$thrown") . "\n");
    }

    /** A line of a log of JSON, where its level is one to be seen. */
    public static function entry(string $level, array $members): void
    {
        $least = self::ORDER[(string) getenv('AWS_LAMBDA_LOG_LEVEL')] ?? self::ORDER['INFO'];
        if (self::ORDER[$level] < $least) {
            return;
        }
        $id = Runtime::requestId();
        $entry = ['timestamp' => self::time(), 'level' => $level] + ($id === null ? [] : ['requestId' => $id]);
        Runtime::write(json_encode($entry + $members, self::JSON) . "\n");
    }

    /** What PHP itself warns of; true: said, and not to be said again. */
    public static function warned(int $type, string $message, string $file, int $line): bool
    {
        if ((error_reporting() & $type) === 0) {
            return true;
        }
        $level = match ($type) {
            E_NOTICE, E_USER_NOTICE, E_DEPRECATED, E_USER_DEPRECATED => 'INFO',
            default => 'WARN',
        };
        if ($type === E_USER_ERROR || $type === E_RECOVERABLE_ERROR) {
            // Ends the script, and is told then.
            return false;
        }
        self::entry($level, ['message' => $message, 'location' => "$file:$line"]);
        return true;
    }

    /** PSR-3 §1.2: `{name}` stands for the context's member of that name. */
    private static function interpolated(string $message, array $context): string
    {
        $values = [];
        foreach ($context as $name => $value) {
            if (is_scalar($value) || $value === null || $value instanceof \Stringable) {
                $values['{' . $name . '}'] = is_bool($value) ? var_export($value, true) : (string) $value;
            }
        }
        return $values === [] ? $message : strtr($message, $values);
    }

    private static function time(): string
    {
        return (new \DateTimeImmutable('now', new \DateTimeZone('UTC')))->format('Y-m-d\TH:i:s.v\Z');
    }
}
