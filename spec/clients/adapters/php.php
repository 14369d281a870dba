<?php
// HTTP libraries of PHP with the loop that a service would write around them, and Symfony's EventSourceHttpClient.
// As most such loops do, this one remembers the id of an event that it handed over, and nothing else.
declare(strict_types=1);

[, $name, $url] = $argv;

final class Refused extends Exception
{
}

function say(array $line): void
{
    fwrite(STDOUT, json_encode($line, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE) . "\n");
}

final class Stream
{
    public string $last = '';
    public float $retry = 1.0;
    private string $rest = '';
    private string $type = '';
    private string $id = '';
    private ?array $data = null;

    /** @return string[] */
    public function headers(): array
    {
        $headers = ['Accept' => 'text/event-stream'];
        return $this->last === '' ? $headers : $headers + ['Last-Event-ID' => $this->last];
    }

    public function opened(int $status): void
    {
        if ($status !== 200) {
            throw new Refused("status $status");
        }
        $this->rest = $this->type = $this->id = '';
        $this->data = null;
        say(['open' => true]);
    }

    public function feed(string $bytes): void
    {
        $lines = explode("\n", $this->rest . $bytes);
        $this->rest = array_pop($lines);
        foreach ($lines as $line) {
            $this->line($line);
        }
    }

    private function line(string $line): void
    {
        if ($line === '') {
            if ($this->data !== null) {
                $this->last = $this->id !== '' ? $this->id : $this->last;
                $type = $this->type !== '' ? $this->type : 'message';
                say(['event' => $type, 'id' => $this->id, 'data' => implode("\n", $this->data)]);
            }
            $this->type = $this->id = '';
            $this->data = null;
            return;
        }
        [$field, $value] = explode(':', $line, 2) + [1 => ''];
        $value = str_starts_with($value, ' ') ? substr($value, 1) : $value;
        switch ($field) {
            case 'data':
                $this->data[] = $value;
                break;
            case 'event':
                $this->type = $value;
                break;
            case 'id':
                $this->id = $value;
                break;
            case 'retry':
                $this->retry = (int) $value / 1000;
                break;
        }
    }
}

function read_curl(Stream $stream): void
{
    global $url;
    $headers = [];
    foreach ($stream->headers() as $field => $value) {
        $headers[] = "$field: $value";
    }
    $curl = curl_init($url);
    $opened = false;
    $refused = 0;
    curl_setopt_array($curl, [
        CURLOPT_HTTPHEADER => $headers,
        CURLOPT_LOW_SPEED_LIMIT => 1,
        CURLOPT_LOW_SPEED_TIME => 60, // longer than the broker's heartbeat
        CURLOPT_WRITEFUNCTION => function ($curl, string $bytes) use ($stream, &$opened, &$refused): int {
            $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
            if ($status !== 200) {
                $refused = $status;
                return 0;
            }
            if (!$opened) {
                $stream->opened($status);
                $opened = true;
            }
            $stream->feed($bytes);
            return strlen($bytes);
        },
    ]);
    curl_exec($curl);
    $error = curl_error($curl);
    if ($refused !== 0) {
        throw new Refused("status $refused");
    }
    if ($error !== '') {
        throw new RuntimeException($error);
    }
}

function read_guzzle(Stream $stream): void
{
    global $url;
    require_once 'GuzzleHttp/autoload.php';
    // The stream handler: with that of curl, `stream` would wait for the end of the body.
    $client = new GuzzleHttp\Client(['handler' => new GuzzleHttp\HandlerStack(new GuzzleHttp\Handler\StreamHandler())]);
    $response = $client->get($url, ['headers' => $stream->headers(), 'stream' => true, 'read_timeout' => 60,
        'http_errors' => false]);
    $stream->opened($response->getStatusCode());
    $body = $response->getBody();
    while (!$body->eof()) {
        // Not read(8192): PHP's own decoder of chunks waits until it has as many bytes as it was asked for.
        $stream->feed(GuzzleHttp\Psr7\Utils::readLine($body));
    }
}

// It reconnects by itself when a connection breaks, and not when a stream ends: then `connect` starts anew.
function read_symfony(): void
{
    global $url;
    require_once 'Symfony/Component/HttpClient/autoload.php';
    $client = new Symfony\Component\HttpClient\EventSourceHttpClient(null, 1.0);
    $last = '';
    for (;;) {
        $options = $last === '' ? [] : ['headers' => ['Accept' => 'text/event-stream', 'Last-Event-ID' => $last]];
        $source = $client->connect($url, $options);
        try {
            foreach ($client->stream($source, 60) as $chunk) {
                if ($chunk->isTimeout()) {
                    continue;
                }
                if ($source->getInfo('http_code') !== 200) {
                    break;
                }
                if ($chunk->isFirst()) {
                    say(['open' => true]);
                } elseif ($chunk instanceof Symfony\Component\HttpClient\Chunk\ServerSentEvent) {
                    $last = $chunk->getId() !== '' ? $chunk->getId() : $last;
                    say(['event' => $chunk->getType(), 'id' => $chunk->getId(), 'data' => $chunk->getData()]);
                }
            }
        } catch (Symfony\Contracts\HttpClient\Exception\ExceptionInterface | LogicException $e) {
            // LogicException: Symfony 5.4 says that where the first connection of a `connect` is refused
            say(['error' => $e->getMessage()]);
        }
        $status = $source->getInfo('http_code');
        $delay = $source->getInfo('reconnection_time') ?: 1.0;
        $source->cancel();
        if ($status >= 400) {
            say(['end' => "status $status"]);
            return;
        }
        usleep((int) (1e6 * $delay));
    }
}

if ($name === 'symfony/http-client') {
    read_symfony();
    exit(0);
}

$read = ['php-curl' => 'read_curl', 'guzzle' => 'read_guzzle'][$name];
$stream = new Stream();
for (;;) {
    try {
        $read($stream);
    } catch (Refused $e) {
        say(['end' => $e->getMessage()]);
        break;
    } catch (Exception $e) {
        say(['error' => $e->getMessage()]);
    }
    usleep((int) (1e6 * $stream->retry));
}
