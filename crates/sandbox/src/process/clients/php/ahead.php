<?php

// Starts the runtime client before its function is known: see the orders in clients.rs.
declare(strict_types=1);

require __DIR__ . '/runtime.php';

Virga\Ahead::boot();
