/*
 * merkle.c: the hash trees of RFC 6962.
 *
 * A tree is computed from its leaves in order, with a stack of the complete
 * subtrees on the left: its depth is the number of ones in the count, so that
 * no size needs memory. Leaves are hashes already; a node is SHA-256 over 0x01
 * and its two children.
 */
#include "postgres.h"

#include "seal.h"

static void
hash_node(RfDigest *digest, const RfHash *left, const RfHash *right,
		  RfHash *node)
{
	unsigned char message[1 + 2 * RF_HASH_BYTES];

	message[0] = 0x01;
	memcpy(message + 1, left, RF_HASH_BYTES);
	memcpy(message + 1 + RF_HASH_BYTES, right, RF_HASH_BYTES);
	rf_digest(digest, message, sizeof(message), node);
}

/* Starts a tree. It needs no end: nothing is allocated. */
void
rf_tree_begin(RfTree *tree, RfDigest *digest)
{
	tree->digest = digest;
	tree->count = 0;
	tree->depth = 0;
}

/* Appends a leaf. */
void
rf_tree_add(RfTree *tree, const RfHash *leaf)
{
	RfHash		node = *leaf;

	for (uint64 n = tree->count; n & 1; n >>= 1)
		hash_node(tree->digest, &tree->stack[--tree->depth], &node, &node);
	tree->stack[tree->depth++] = node;
	tree->count++;
}

/* The root of what was added so far; of nothing, it is the hash of nothing. */
void
rf_tree_root(RfTree *tree, RfHash *root)
{
	int			depth = tree->depth;

	if (depth == 0)
	{
		rf_digest(tree->digest, "", 0, root);
		return;
	}
	*root = tree->stack[--depth];
	while (depth > 0)
		hash_node(tree->digest, &tree->stack[--depth], root, root);
}

/* The root of leaves that lie "stride" bytes apart. */
void
rf_tree_of(RfDigest *digest, const void *leaves, size_t stride, uint64 count,
		   RfHash *root)
{
	RfTree		tree;
	const char *leaf = leaves;

	rf_tree_begin(&tree, digest);
	for (uint64 i = 0; i < count; i++, leaf += stride)
		rf_tree_add(&tree, (const RfHash *) leaf);
	rf_tree_root(&tree, root);
}

/*
 * The path of RFC 6962, 2.1.1: what a leaf must be hashed with, beginning at
 * the leaf, to give the root. Returns its length, at most RF_MAX_PATH. The
 * index must be below the count.
 */
int
rf_tree_path(RfDigest *digest, const void *leaves, size_t stride, uint64 count,
			 uint64 index, RfHash *path)
{
	uint64		half = 1;
	const char *right;
	int			length;

	Assert(index < count);
	if (count <= 1)
		return 0;
	while (half < count - half)
		half <<= 1;
	right = (const char *) leaves + half * stride;
	if (index < half)
	{
		length = rf_tree_path(digest, leaves, stride, half, index, path);
		rf_tree_of(digest, right, stride, count - half, &path[length]);
	}
	else
	{
		length = rf_tree_path(digest, right, stride, count - half,
							  index - half, path);
		rf_tree_of(digest, leaves, stride, half, &path[length]);
	}
	return length + 1;
}
