# curl -N, read line by line.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Stream;

my (undef, $url) = @ARGV;
my $child;
$SIG{TERM} = sub { kill TERM => $child if $child; exit 0 };

Stream->new->loop(sub {
    my $stream = shift;
    my %headers = $stream->headers;
    # -i: the status comes first; --speed-limit, --speed-time: given up after a minute of silence
    $child = open my $curl, '-|', 'curl', '-sNi', '--speed-limit', 1, '--speed-time', 60,
        (map { ('-H', "$_: $headers{$_}") } keys %headers), $url or die "curl: $!\n";
    my $status = <$curl>;
    if (defined $status) {
        while (defined(my $head = <$curl>)) { last if $head eq "\r\n" }
        $stream->opened((split / /, $status)[1]);
        while (defined(my $line = <$curl>)) {
            chomp $line;
            $stream->line($line);
        }
    }
    close $curl;
    die 'curl ended with code ', $? >> 8, "\n";
});
