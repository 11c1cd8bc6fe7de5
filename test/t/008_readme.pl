# The SQL of README.md and of the pages of doc/ runs as it is printed there, and
# gives what is printed below it: each page in a cluster of its own, its blocks
# of sql in one session, each block's output in the block of text that follows.
# A block without one must raise no error. Keys that are made anew at each run
# are compared by their form. A key to seal the audit log with is configured.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use IPC::Run;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::Bin/../..";
my $fence = qr/^```sql\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?/ms;

# An Ed25519 private key, as "openssl genpkey" writes it.
sub make_audit_key
{
	my ($file) = @_;
	open(my $random, '<:raw', '/dev/urandom') or die "could not read random bytes: $!";
	read($random, my $seed, 32) == 32 or die 'could not read random bytes';
	close $random;
	my $der = pack('H*', '302e020100300506032b657004220420') . $seed;
	append_to_file($file, "-----BEGIN PRIVATE KEY-----\n" . encode_base64($der) . "-----END PRIVATE KEY-----\n");
	chmod 0600, $file or die "could not set the mode of $file: $!";
	return;
}

# What a reader would see, less what differs from run to run.
sub comparable
{
	my ($text) = @_;
	$text =~ s/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/a time-ordered key, made at this run/g;
	$text =~ s/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/a random key, made at this very run /g;
	$text =~ s/[ \t\r]+$//mg;
	$text =~ s/\n{2,}/\n/g;
	$text =~ s/\A\n+|\n+\z//g;
	return $text;
}

sub run_page
{
	my ($page) = @_;
	my @blocks;
	my $source = slurp_file("$top/$page");
	push @blocks, { sql => $1, output => $2 } while $source =~ /$fence/g;
	cmp_ok(scalar(@blocks), '>', 2, "$page has SQL to run");

	my $node = PostgreSQL::Test::Cluster->new($page =~ s/\W/_/gr);
	$node->init;
	make_audit_key($node->basedir . '/audit.pem');
	$node->append_conf('postgresql.conf', "ringfence.audit_key_file = '" . $node->basedir . "/audit.pem'");
	$node->start;
	$node->safe_psql('postgres', 'CREATE DATABASE app');
	my $script = '';
	$script .= "\\echo ## $_\n$blocks[$_]{sql}\n" for 0 .. $#blocks;
	my $out = '';
	IPC::Run::run([ 'psql', '-X', '-q', '-d', $node->connstr('app') ],
		'<', \$script, '>', \$out, '2>&1', init => sub { chdir $top or die "could not enter $top: $!" });
	my @answers = $out =~ /^## \d+\n(.*?)(?=^## \d|\z)/gms;
	is(scalar(@answers), scalar(@blocks), "$page: every block was run") or diag($out);

	for my $i (0 .. $#blocks)
	{
		my ($first) = $blocks[$i]{sql} =~ /(.*)/;
		my $name = "$page, block " . ($i + 1) . ": $first";
		if (defined $blocks[$i]{output})
		{
			is(comparable($answers[$i] // ''), comparable($blocks[$i]{output}), $name);
		}
		else
		{
			unlike($answers[$i] // 'not run', qr/^(psql|ERROR|FATAL|WARNING|invalid command|not run)\b/m, $name);
		}
	}
	$node->stop;
	return;
}

run_page($_)
  for qw(README.md doc/audit.md doc/cleaning.md doc/context.md doc/core.md doc/export.md doc/gdpr.md doc/idempotency.md doc/imports.md doc/isolation.md
  doc/jobs.md doc/ledger.md doc/operations.md doc/retention.md);

done_testing();
