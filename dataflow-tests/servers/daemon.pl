# perl daemon.pl PORT
use strict;
use warnings;
use HTTP::Daemon;
use HTTP::Response;

$SIG{CHLD} = 'IGNORE';
my $server = HTTP::Daemon->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], ReuseAddr => 1) or die "listen: $!";
while (1) {
    my $client = $server->accept or next;
    next if fork;
    while (my $request = $client->get_request) {
        my $path = $request->uri->path;
        my ($piece, $left) = $path =~ m{^/s/} ? ('ab', 20) : $path =~ m{^/l/} ? ('x' x 12_000, 10) : ('', 0);
        # Content given as code is sent chunked, piece by piece, until there is none.
        my $body = $left ? sub { $left-- > 0 ? $piece : undef } : "plain $path\n";
        $client->send_response(HTTP::Response->new(200, 'OK', ['Content-Type' => 'text/plain'], $body));
    }
    exit 0;
}
