<?php
// For php -S and php-fpm.
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
header('Content-Type: text/plain');
if (str_starts_with($path, '/s/') || str_starts_with($path, '/l/')) {
    [$piece, $count] = str_starts_with($path, '/s/') ? ['ab', 20] : [str_repeat('x', 12000), 10];
    while (ob_get_level() > 0) {
        ob_end_flush();
    }
    for ($n = 0; $n < $count; $n++) {
        echo $piece;
        flush();
    }
} else {
    echo "plain $path\n";
}
