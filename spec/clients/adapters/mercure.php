<?php
// Publishes what UPDATES says, a list of updates as JSON, with Symfony's Mercure component, and prints the ids.
declare(strict_types=1);

require 'Symfony/Component/Mercure/autoload.php';
require 'Symfony/Component/HttpClient/autoload.php';

use Symfony\Component\Mercure\Hub;
use Symfony\Component\Mercure\Jwt\StaticTokenProvider;
use Symfony\Component\Mercure\Update;

[, , $url] = $argv;

$hub = new Hub($url, new StaticTokenProvider(getenv('TOKEN')));
foreach (json_decode(getenv('UPDATES'), true, 8, JSON_THROW_ON_ERROR) as $u) {
    fwrite(STDOUT, $hub->publish(new Update(
        $u['topics'], $u['data'], $u['private'] ?? false, $u['id'] ?? null, $u['type'] ?? null, $u['retry'] ?? null,
    )) . "\n");
}
