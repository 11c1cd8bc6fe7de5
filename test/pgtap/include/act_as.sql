-- From here on a member of Alder Clean with that role and no other.
CREATE FUNCTION pg_temp.act_as(role text, org text DEFAULT 'Alder Clean') RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
	RESET ROLE;
	PERFORM ringfence.set_context(m.org_id, m.user_id, m.roles, m.party)
		FROM ringfence_data.memberships AS m
			JOIN ringfence_data.orgs AS o ON o.id = m.org_id
		WHERE o.name = act_as.org AND m.roles = ARRAY[act_as.role]
		ORDER BY m.user_id
		LIMIT 1;
	SET LOCAL ROLE ringfence_member;
END
$$;
