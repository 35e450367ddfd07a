# A client of MariaDB's: does operations of every kind and prints the rows that there have to be, a line
# each: command, text, status, answer. Usage: mysql.pl PORT SEED OPERATIONS OPTIONS FILE
use strict;
# The client encodes text itself: bytes would be encoded twice.
use utf8;
binmode(STDOUT, ":utf8");
use DBI qw(:sql_types);
my ($port, $seed, $operations, $options, $file) = @ARGV;
my $db = DBI->connect("DBI:MariaDB:host=127.0.0.1;port=$port;mariadb_local_infile=1;$options", "root", "",
  {RaiseError => 1, PrintError => 0}) or die;
sub random { $seed = ($seed * 1103515245 + 12345) % 2147483648; return int($seed / 65536) % $_[0] }
sub row { print join("\t", @_), "\n" }
sub query { my ($sql, $status, $answer) = @_; row(3, substr($sql, 0, 512), $status, $answer) }
sub prepared {
  my ($sql, $answers, @runs) = @_;
  my $statement = $db->prepare($sql, {mariadb_server_prepare => 1});
  row(22, $sql, 2, "");
  for my $run (@runs) {
    my $number = 0;
    $statement->bind_param(++$number, $_, defined $_ && /^-?\d+$/ ? SQL_INTEGER : SQL_VARCHAR) for @$run;
    $statement->execute;
    my $rows = $statement->{NUM_OF_FIELDS} ? scalar @{$statement->fetchall_arrayref} : -1;
    my $values = join(", ", map { defined $_ ? $_ : "NULL" } @$run);
    row(23, "query=[$sql] params=[$values]", 2, $rows < 0 ? $answers : "Resultset rows = $rows");
  }
  undef $statement;
  row(25, "", 1, "");
}
my @kinds = (
  sub { my $n = shift; my $sql = "SELECT $n AS n, 'x$n' AS t, NULL";
    $db->selectall_arrayref($sql); query($sql, 2, "Resultset rows = 1") },
  sub { my $n = shift; my $count = random(300); my $sql = "SELECT seq, 'row $n' FROM seq_1_to_1000 LIMIT $count";
    $db->selectall_arrayref($sql); query($sql, 2, "Resultset rows = $count") },
  sub { my $n = shift; my $count = 1 + random(9);
    my $sql = "INSERT INTO items VALUES " . join(", ", map { "($n, 'é $_')" } 1 .. $count);
    $db->do($sql); query($sql, 2, "affected_rows = $count") },
  sub { my $n = shift; my $sql = "SELECT * FROM missing$n";
    eval { $db->do($sql) }; query($sql, 3, "1146 Table 'shop.missing$n' doesn't exist") },
  sub { my $n = shift; my $sql = "CALL pair($n)"; my $call = $db->prepare($sql); $call->execute;
    do { $call->fetchall_arrayref if $call->{NUM_OF_FIELDS} } while ($call->more_results);
    query($sql, 2, "Resultset rows = 1, Resultset rows = 2") },
  sub { my $n = shift; my @runs = map { [random(1000) - 500, "w$n", random(3) ? "a" : undef] } 1 .. 1 + random(4);
    prepared("SELECT ? + $n, ?, ?", "", @runs) },
  sub { my $n = shift; prepared("INSERT INTO items VALUES (?, ?)", "affected_rows = 1", [$n, "prepared $n"]) },
  sub { my $n = shift; my $sql = "SELECT $n, ? FROM missing";
    eval { $db->prepare($sql, {mariadb_server_prepare => 1}) };
    row(22, $sql, 3, "1146 Table 'shop.missing' doesn't exist") },
  sub { my $n = shift; my $bytes = random(200_000); my $sql = "SELECT repeat('y', $bytes), $n /* " . ("z" x $bytes) . " */";
    $db->selectall_arrayref($sql); query($sql, 2, "Resultset rows = 1") },
  sub { my $n = shift; my $lines = 1 + random(2000); open(my $out, ">", $file) or die;
    print $out "$n\tline $_\n" for 1 .. $lines; close $out;
    my $sql = "LOAD DATA LOCAL INFILE '$file' INTO TABLE items /* $n */"; $db->do($sql);
    query($sql, 2, "affected_rows = $lines") },
  sub { $db->ping; row(14, "", 2, "affected_rows = 0") },
  sub { my $n = shift; my $sql = "UPDATE items SET name = 'none' WHERE id = -$n"; $db->do($sql);
    query($sql, 2, "affected_rows = 0") },
);
$db->do("USE shop");
query("USE shop", 2, "affected_rows = 0");
for my $n (1 .. $operations) { $kinds[random(scalar @kinds)]->($n) }
$db->disconnect;
row(1, "", 1, "");
