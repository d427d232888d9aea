# A web server of some lines, for an image that has nothing but what its base brings.
use strict;
use warnings;
use IO::Socket::INET;

my $port = $ENV{PORT} || 8000;
my $server = IO::Socket::INET->new(LocalPort => $port, Listen => 64, ReuseAddr => 1)
    or die "can't listen at $port: $@\n";
$SIG{TERM} = sub { exit 0 };
$SIG{PIPE} = 'IGNORE';
$| = 1;
print "listening at $port\n";

open my $file, '<', '/srv/page' or die "/srv/page: $!\n";
my $page = do { local $/; <$file> };
$page .= "$ENV{GREETING}\n" if $ENV{GREETING};

while (my $client = $server->accept) {
    while (defined(my $line = <$client>)) { last if $line =~ /^\r?\n$/ }
    print $client "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n",
        'Content-Length: ', length $page, "\r\n\r\n", $page;
    close $client;
}
