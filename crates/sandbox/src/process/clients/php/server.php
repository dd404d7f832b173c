<?php

// Serves a front controller with PHP's own web server. It starts the server, with this file as its router: a request
// for a file of the controller's folder that browsers fetch (by its ending: never a program, settings or a hidden file)
// is answered with that file, and every other one by the controller.
declare(strict_types=1);

const VIRGA_ASSETS = 'css|js|mjs|map|png|jpg|jpeg|gif|svg|webp|avif|ico|woff|woff2|ttf|otf|txt|html|htm|xml|webmanifest|pdf|mp3|mp4|webm|wasm';

if (PHP_SAPI === 'cli') {
    $controller = $argv[1];
    if (getenv('PHP_CLI_SERVER_WORKERS') === false) {
        // Requests that an instance answers at once; each is a process.
        putenv('PHP_CLI_SERVER_WORKERS=4');
    }
    putenv("VIRGA_CONTROLLER=$controller");
    $settings = ['-d', 'display_errors=0', '-d', 'log_errors=1', '-d', 'variables_order=EGPCS'];
    $settings[] = '-d';
    $settings[] = 'include_path=' . implode(PATH_SEPARATOR, ['.', '/var/task', '/opt/php', get_include_path()]);
    $server = ['-q', '-S', '0.0.0.0:' . getenv('PORT'), '-t', dirname($controller), __FILE__];
    pcntl_exec(PHP_BINARY, [...$settings, ...$server]);
    fwrite(STDERR, "PHP's web server cannot be started\n");
    exit(1);
}

set_error_handler(virga_log(...));
register_shutdown_function(static function (): void {
    $error = error_get_last();
    if ($error !== null && ($error['type'] & (E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR)) !== 0) {
        virga_log($error['type'], $error['message'], $error['file'], $error['line']);
    }
});
if (virga_is_asset()) {
    // The server answers it.
    return false;
}
// As a web server with a rewrite to it would say.
$_SERVER['SCRIPT_FILENAME'] = (string) getenv('VIRGA_CONTROLLER');
$_SERVER['SCRIPT_NAME'] = $_SERVER['PHP_SELF'] = '/' . basename($_SERVER['SCRIPT_FILENAME']);
unset($_SERVER['PATH_INFO']);
chdir(dirname($_SERVER['SCRIPT_FILENAME']));
require $_SERVER['SCRIPT_FILENAME'];

function virga_is_asset(): bool
{
    // The server finds the file anew, and takes what follows a file's name for a path given to it. So the address must be
    // the file's whole name and nothing that can be read in another way.
    $path = rawurldecode(explode('?', $_SERVER['REQUEST_URI'], 2)[0]);
    $named = preg_match('~\.(' . VIRGA_ASSETS . ')$~Di', $path) === 1 && !preg_match('~/[./]~', $path);
    return $named && is_file($_SERVER['DOCUMENT_ROOT'] . $path);
}

/** The server that says nothing of requests says nothing of errors either. PHP goes on with what it does besides. */
function virga_log(int $type, string $message, string $file, int $line): bool
{
    if ((error_reporting() & $type) !== 0) {
        $name = match ($type) {
            E_ERROR, E_PARSE, E_CORE_ERROR, E_COMPILE_ERROR, E_USER_ERROR, E_RECOVERABLE_ERROR => 'Fatal error',
            E_NOTICE, E_USER_NOTICE => 'Notice',
            E_DEPRECATED, E_USER_DEPRECATED => 'Deprecated',
            default => 'Warning',
        };
        file_put_contents('php://stderr', "PHP $name:  $message in $file on line $line\n");
    }
    return false;
}
