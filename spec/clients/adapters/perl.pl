# HTTP libraries of Perl, each with the callback that its documentation has for content that comes in parts.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Stream;

my ($name, $url) = @ARGV;
my $timeout = 60; # longer than the broker's heartbeat

my %read = (
    'HTTP::Tiny' => sub {
        my $stream = shift;
        require HTTP::Tiny;
        my $opened;
        my $response = HTTP::Tiny->new(timeout => $timeout)->get($url, {
            headers => { $stream->headers },
            data_callback => sub {
                my ($bytes, $response) = @_;
                $stream->opened($response->{status}) unless $opened++;
                $stream->feed($bytes);
            },
        });
        die $response->{content} if $response->{status} == 599;
        die "status $response->{status}\n" if !$opened;
    },
    'LWP::UserAgent' => sub {
        my $stream = shift;
        require LWP::UserAgent;
        my $ua = LWP::UserAgent->new(timeout => $timeout);
        my $opened;
        my $response = $ua->get($url, $stream->headers, ':read_size_hint' => 4096, ':content_cb' => sub {
            my ($bytes, $response) = @_;
            $stream->opened($response->code) unless $opened++;
            $stream->feed($bytes);
        });
        die $response->header('X-Died') if $response->header('X-Died');
        die 'status ', $response->code, "\n" if !$opened && ($response->header('Client-Warning') // '') eq '';
    },
    'Mojo::UserAgent' => sub {
        my $stream = shift;
        require Mojo::UserAgent;
        # max_response_size: a stream has no end that Mojolicious could wait for
        my $ua = Mojo::UserAgent->new(inactivity_timeout => $timeout, max_response_size => 0);
        my $tx = $ua->build_tx(GET => $url, { $stream->headers });
        my ($opened, $refused);
        $tx->res->content->unsubscribe('read')->on(read => sub {
            my ($content, $bytes) = @_;
            return if $refused;
            $refused = $tx->res->code if $tx->res->code != 200;
            return if $refused;
            $stream->opened($tx->res->code) unless $opened++;
            $stream->feed($bytes);
        });
        $tx = $ua->start($tx);
        die "status $refused\n" if $refused;
        die $tx->error->{message} . "\n" if $tx->error;
    },
);

Stream->new->loop($read{$name});
