# What the adapters in Perl share: a parser of lines, the lines they print, and the loop. As most such
# loops do, this one remembers the id of an event that it handed over, and nothing else.
package Stream;
use strict;
use warnings;
use JSON::PP;
use Time::HiRes;

my $json = JSON::PP->new->utf8->canonical;
$| = 1;

sub say_line { print $json->encode({@_}), "\n" }

sub new { bless { last => '', retry => 1 }, shift }

sub headers {
    my $self = shift;
    return (Accept => 'text/event-stream', $self->{last} ne '' ? ('Last-Event-ID' => $self->{last}) : ());
}

sub opened {
    my ($self, $status) = @_;
    die "status $status\n" if $status != 200;
    @$self{qw(rest type id data)} = ('', '', '', undef);
    say_line(open => JSON::PP::true);
}

# Bytes as they come; lines are decoded when they are complete.
sub feed {
    my ($self, $bytes) = @_;
    $self->{rest} .= $bytes;
    $self->line($1) while $self->{rest} =~ s/\A([^\n]*)\n//;
}

sub line {
    my ($self, $line) = @_;
    utf8::decode($line);
    if ($line eq '') {
        if (defined $self->{data}) {
            $self->{last} = $self->{id} if $self->{id} ne '';
            say_line(event => $self->{type} || 'message', id => $self->{id}, data => $self->{data});
        }
        @$self{qw(type id data)} = ('', '', undef);
        return;
    }
    my ($field, $value) = $line =~ /\A([^:]*):? ?(.*)\z/s;
    if ($field eq 'data') { $self->{data} = defined $self->{data} ? "$self->{data}\n$value" : $value }
    elsif ($field eq 'event') { $self->{type} = $value }
    elsif ($field eq 'id') { $self->{id} = $value }
    elsif ($field eq 'retry') { $self->{retry} = $value / 1000 }
}

# Reads streams one after the other until a status says that this is of no use.
sub loop {
    my ($self, $read) = @_;
    for (;;) {
        my $ok = eval { $read->($self); 1 };
        if (!$ok && $@ =~ /\A(status \d+)/) {
            say_line(end => $1);
            return;
        }
        say_line(error => "$@") unless $ok;
        Time::HiRes::sleep($self->{retry});
    }
}

1;
