<?php

// Starts the runtime client for a function that is known.
declare(strict_types=1);

require __DIR__ . '/runtime.php';

Virga\Runtime::main();
