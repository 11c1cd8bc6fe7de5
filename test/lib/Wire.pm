package Wire;

# A connection that shows what the server says: columns, rows, command tags,
# notices and errors, by the simple and by the extended protocol. Over a unix
# socket that asks for no password.

use strict;
use warnings;
use IO::Socket::UNIX;

sub connect
{
	my ($class, $host, $port, $user, $db) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => "$host/.s.PGSQL.$port")
	  or die "could not connect to $host: $!\n";
	my $self = bless { socket => $socket, buffer => '', status => 'I' }, $class;
	my $startup = pack('N', 196608) . join("\0", user => $user, database => $db, application_name => 'wire', '', '');
	$self->_write(pack('N', 4 + length $startup) . $startup);
	my ($answer) = $self->_answers;
	die "could not connect: $answer->{error}\n" if $answer && $answer->{error};
	return $self;
}

sub _write
{
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	while (length $bytes)
	{
		my $n = syswrite $self->{socket}, $bytes;
		die "the connection is lost\n" unless $n;
		substr($bytes, 0, $n) = '';
	}
	return;
}

sub _send
{
	my ($self, @messages) = @_;
	$self->_write(join '', map { $_->[0] . pack('N', 4 + length $_->[1]) . $_->[1] } @messages);
	return;
}

sub _read
{
	my ($self, $len) = @_;
	while (length $self->{buffer} < $len)
	{
		sysread($self->{socket}, $self->{buffer}, 65536, length $self->{buffer})
		  or die "the connection is lost\n";
	}
	return substr $self->{buffer}, 0, $len, '';
}

# The values of a row; undef for NULL.
sub _values
{
	my ($body) = @_;
	my $n = unpack 'n', substr $body, 0, 2, '';
	my @values;
	for (1 .. $n)
	{
		my $len = unpack 'l>', substr $body, 0, 4, '';
		push @values, $len < 0 ? undef : substr $body, 0, $len, '';
	}
	return \@values;
}

# Name and type of each column.
sub _columns
{
	my ($body) = @_;
	my $n = unpack 'n', substr $body, 0, 2, '';
	my @columns;
	for (1 .. $n)
	{
		my ($name, undef, undef, $type, undef, $typmod) = unpack 'Z*NnNnl>', $body;
		substr $body, 0, length($name) + 19, '';
		push @columns, "$name:$type:$typmod";
	}
	return \@columns;
}

sub _message
{
	my ($body) = @_;
	my %fields = map { substr($_, 0, 1) => substr($_, 1) } grep { length } split /\0/, $body;
	return "$fields{C} $fields{M}";
}

# Everything up to ReadyForQuery: an answer for each statement.
sub _answers
{
	my ($self) = @_;
	my @answers;
	my $answer;
	my @notices;
	for (;;)
	{
		my ($type, $len) = unpack 'aN', $self->_read(5);
		my $body = $self->_read($len - 4);
		$answer //= { rows => [], columns => [], notices => [] } if $type =~ /[TDCIsEt]/;
		if ($type eq 'N')
		{
			push @notices, _message($body);
		}
		elsif ($type eq 'T')
		{
			$answer->{columns} = _columns($body);
		}
		elsif ($type eq 'D')
		{
			push @{ $answer->{rows} }, _values($body);
		}
		elsif ($type =~ /[CIsE]/)
		{
			$answer->{tag} = unpack 'Z*', $body if $type eq 'C';
			$answer->{tag} = 'suspended' if $type eq 's';
			$answer->{error} = _message($body) if $type eq 'E';
			$answer->{notices} = [@notices];
			push @answers, $answer;
			undef $answer;
			@notices = ();
		}
		elsif ($type eq 'G')
		{
			$self->_send([ 'c', '' ]);
		}
		elsif ($type eq 'Z')
		{
			$self->{status} = $body;
			return @answers;
		}
	}
}

# Is a transaction open, T, failed, E, or none, I?
sub status
{
	my ($self) = @_;
	return $self->{status};
}

# Sends one string, and returns an answer for each of its statements.
sub send_all
{
	my ($self, $sql) = @_;
	$self->_send([ 'Q', "$sql\0" ]);
	return $self->_answers;
}

# The answer to the last statement that was run: rows, columns, tag, notices,
# and the error, if it failed.
sub send_simple
{
	my ($self, $sql) = @_;
	return ($self->send_all($sql))[-1] // { rows => [], columns => [], notices => [] };
}

# The same by Parse, Bind, Describe and Execute, with parameters as text. Options:
# "binary" results, "limit" of rows.
sub send_extended
{
	my ($self, $sql, $params, %options) = @_;
	my $values = join '', map { defined $_ ? pack('N', length $_) . $_ : pack('N', 0xFFFFFFFF) } @$params;
	$self->_send(
		[ 'P', "\0$sql\0" . pack('n', 0) ],
		[ 'B', "\0\0" . pack('nn', 0, scalar @$params) . $values . ($options{binary} ? pack('nn', 1, 1) : pack('n', 0)) ],
		[ 'D', "P\0" ],
		[ 'E', "\0" . pack('N', $options{limit} // 0) ],
		[ 'S', '' ]);
	return ($self->_answers)[-1];
}

# The values of the first row; dies if it fails.
sub ask
{
	my ($self, $sql) = @_;
	my $answer = $self->send_simple($sql);
	die "$answer->{error}\n  in $sql\n" if defined $answer->{error};
	return wantarray ? @{ $answer->{rows}[0] // [] } : $answer->{rows}[0][0];
}

sub close
{
	my ($self) = @_;
	eval { $self->_send([ 'X', '' ]) };
	$self->{socket}->close;
	return;
}

1;
