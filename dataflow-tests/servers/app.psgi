# For starman.
sub {
    my ($env) = @_;
    my $path = $env->{PATH_INFO};
    my ($piece, $count) = $path =~ m{^/s/} ? ('ab', 20) : $path =~ m{^/l/} ? ('x' x 12_000, 10) : ();
    return [200, ['Content-Type' => 'text/plain'], ["plain $path\n"]] unless $count;
    return sub {
        my $out = $_[0]->([200, ['Content-Type' => 'text/plain']]);
        $out->write($piece) for 1 .. $count;
        $out->close;
    };
};
