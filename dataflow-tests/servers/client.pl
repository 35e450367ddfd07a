# Asks for 30 of each kind: perl client.pl PORT TAG
use strict;
use warnings;
use LWP::UserAgent;

my ($port, $tag) = @ARGV;
my $agent = LWP::UserAgent->new(keep_alive => 1, timeout => 20);
for my $kind (qw(p s l)) {
    for my $number (1 .. 30) {
        my $answer = $agent->get("http://127.0.0.1:$port/$kind/$tag/$number");
        die "$kind $number: " . $answer->status_line unless $answer->code == 200 && length $answer->content;
    }
}
