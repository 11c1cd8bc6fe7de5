/*
 * planner.c: keeps policies first.
 *
 * PostgreSQL evaluates a condition of the query before the policies if its
 * functions are leakproof and cheap. Leakproof functions show nothing of their
 * arguments, yet what stands beside them is run or not run by the rows that
 * they looked at: a sub-select or a function without columns in the second
 * condition, or in a branch of a CASE, tells whether the first condition held
 * for a row that no policy would show. An error or a setting carries the answer
 * out, and comparisons give a binary search over every organization's values.
 *
 * So once the paths of a table are made, and with them the index conditions
 * (which are sound: what they compare with is computed before any row is read),
 * conditions above the policies' security level lose the label, and the order
 * of evaluation is that of security levels.
 */
#include "postgres.h"

#include "nodes/pathnodes.h"
#include "optimizer/paths.h"

#include "compat.h"
#include "ringfence.h"

static set_rel_pathlist_hook_type prev_set_rel_pathlist = NULL;

static void
demote(List *clauses, Index policies)
{
	ListCell   *lc;

	foreach(lc, clauses)
	{
		RestrictInfo *clause = lfirst_node(RestrictInfo, lc);

		if (clause->security_level > policies)
			clause->leakproof = false;
	}
}

/* Acts before the chain. */
static void
keep_policies_first(PlannerInfo *root, RelOptInfo *rel, Index rti,
					RangeTblEntry *rte)
{
	ListCell   *lc;

	if (root->qual_security_level > 0)
	{
		demote(rel->baserestrictinfo, rel->baserestrict_min_security);
		demote(rel->joininfo, rel->baserestrict_min_security);
		foreach(lc, rel->ppilist)
			demote(((ParamPathInfo *) lfirst(lc))->ppi_clauses, 0);
	}
	if (prev_set_rel_pathlist)
		prev_set_rel_pathlist(root, rel, rti, rte);
}

/* Installs the hook. Called once, from _PG_init. */
void
rf_planner_init(void)
{
	prev_set_rel_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = keep_policies_first;
}
