-- What is personal: in the audit log until it is forgotten.

SELECT ringfence.label(format('cleaning.%I', l.rel)::regclass, l.column_name, 'personal')
FROM (VALUES
	('clients', 'name'), ('clients', 'email'), ('clients', 'phone'), ('clients', 'address'),
	('workers', 'name'), ('workers', 'email'), ('workers', 'phone'), ('workers', 'team_id'),
	('leads', 'name'), ('leads', 'email'), ('leads', 'phone'), ('leads', 'address'),
	('bookings', 'address'), ('bookings', 'notes'),
	-- The line of a visit says where it was.
	('invoice_items', 'description'), ('invoices', 'notes')
) AS l (rel, column_name);
