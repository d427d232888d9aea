<?php
// A web app whose classes are loaded by composer's autoloader.
require __DIR__ . '/../vendor/autoload.php';

echo '<h1>' . htmlspecialchars(Sample\Greeting::text()) . "</h1>\n";
