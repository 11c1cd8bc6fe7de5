/*
 * signing.c: Ed25519 with the key of ringfence.audit_key_file.
 *
 * The file is read anew each time, so that a key can be exchanged without a
 * restart, and is wiped from memory as soon as OpenSSL has parsed it. The key
 * itself is freed by a callback of the memory context that the signer is made
 * in, which is registered before the key exists. Tenants ask for signed heads
 * too: messages name no path, the server's log does.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "storage/fd.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "seal.h"

#define MAX_KEY_FILE 16384

/* ringfence.audit_key_file */
static char *audit_key_file = NULL;

/* The text of the file, wiped when the memory context goes. */
typedef struct KeyText
{
	char		data[MAX_KEY_FILE];
	size_t		len;
	MemoryContextCallback callback;
} KeyText;

static void
wipe_text(void *arg)
{
	KeyText    *pem = arg;

	OPENSSL_cleanse(pem->data, sizeof(pem->data));
}

static void
release_signer(void *arg)
{
	RfSigner   *signer = arg;

	EVP_MD_CTX_free(signer->context);
	EVP_PKEY_free(signer->key);
	signer->context = NULL;
	signer->key = NULL;
}

/* Why the file can't be used; says so in the log, unless the caller can do without. */
static bool
refuse_file(bool missing_ok, const char *detail)
{
	if (!missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("could not use the audit key"),
				 errdetail_log("File \"%s\": %s.", audit_key_file, detail),
				 errhint("The server log says why.")));
	return false;
}

/* Reads the file; false, or an error, if it isn't the server's alone to read. */
static bool
read_key_file(KeyText *pem, bool missing_ok)
{
	int			fd = OpenTransientFile(audit_key_file, O_RDONLY | PG_BINARY);
	struct stat st;
	ssize_t		n = 0;

	if (fd < 0)
		return refuse_file(missing_ok, psprintf("could not be opened: %m"));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
		(st.st_uid != geteuid() && st.st_uid != 0) ||
		(st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
	{
		CloseTransientFile(fd);
		return refuse_file(missing_ok,
						   "must be a file of the server's user, or of root, that group and others have no access to");
	}
	while (pem->len < sizeof(pem->data) &&
		   (n = read(fd, pem->data + pem->len,
					 sizeof(pem->data) - pem->len)) > 0)
		pem->len += n;
	CloseTransientFile(fd);
	if (n < 0)
		return refuse_file(missing_ok, "could not be read");
	if (pem->len == sizeof(pem->data))
		return refuse_file(missing_ok, "is too long for a key");
	return true;
}

/* An encrypted key would have OpenSSL ask for a password on the terminal. */
static int
no_password(char *buf, int size, int rwflag, void *arg)
{
	(void) buf;
	(void) size;
	(void) rwflag;
	(void) arg;
	return 0;
}

/*
 * Makes a signer with the configured key, in the current memory context. NULL
 * if there is no usable key and that is all right; else throws 55000.
 */
RfSigner *
rf_signer_open(RfDigest *digest, bool missing_ok)
{
	RfSigner   *signer;
	KeyText    *pem;
	BIO		   *bio;
	size_t		len = RF_HASH_BYTES;

	if (audit_key_file == NULL || audit_key_file[0] == '\0')
	{
		if (missing_ok)
			return NULL;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no audit key is configured"),
				 errhint("Make one as the server's user with \"umask 077; openssl genpkey -algorithm ed25519 -out FILE\" and set \"ringfence.audit_key_file\" to its path in postgresql.conf, or by ALTER SYSTEM after LOAD 'ringfence'.")));
	}

	signer = palloc0(sizeof(RfSigner));
	signer->callback.func = release_signer;
	signer->callback.arg = signer;
	MemoryContextRegisterResetCallback(CurrentMemoryContext,
									   &signer->callback);
	pem = palloc0(sizeof(KeyText));
	pem->callback.func = wipe_text;
	pem->callback.arg = pem;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &pem->callback);
	if (!read_key_file(pem, missing_ok))
		return NULL;

	bio = BIO_new_mem_buf(pem->data, (int) pem->len);
	if (bio != NULL)
		signer->key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
	BIO_free(bio);
	wipe_text(pem);
	ERR_clear_error();
	if (signer->key == NULL || EVP_PKEY_id(signer->key) != EVP_PKEY_ED25519)
	{
		(void) refuse_file(missing_ok, "holds no Ed25519 private key in PEM form without a password");
		return NULL;
	}
	signer->context = EVP_MD_CTX_new();
	if (signer->context == NULL ||
		EVP_DigestSignInit(signer->context, NULL, NULL, NULL,
						   signer->key) != 1 ||
		EVP_PKEY_get_raw_public_key(signer->key, signer->public_key,
									&len) != 1 || len != RF_HASH_BYTES)
		elog(ERROR, "could not set up Ed25519");
	rf_digest(digest, signer->public_key, RF_HASH_BYTES, &signer->key_id);
	return signer;
}

/* Signs a message; "signature" has RF_SIGNATURE_BYTES. */
void
rf_sign(RfSigner *signer, const void *message, size_t len,
		unsigned char *signature)
{
	size_t		signature_len = RF_SIGNATURE_BYTES;

	/* Ed25519 signs once an initialization. */
	if (EVP_DigestSignInit(signer->context, NULL, NULL, NULL,
						   signer->key) != 1 ||
		EVP_DigestSign(signer->context, signature, &signature_len, message,
					   len) != 1 ||
		signature_len != RF_SIGNATURE_BYTES)
		elog(ERROR, "could not sign");
}

/* Is it that key's signature of the message? Never throws for what it is given. */
bool
rf_signature_valid(const unsigned char *public_key, const void *message,
				   size_t len, const unsigned char *signature)
{
	EVP_PKEY   *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
												  public_key, RF_HASH_BYTES);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool		valid = key != NULL && context != NULL &&
	EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
	EVP_DigestVerify(context, signature, RF_SIGNATURE_BYTES, message,
					 len) == 1;

	EVP_MD_CTX_free(context);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return valid;
}

/* Defines the setting. Called once, from _PG_init. */
void
rf_signing_init(void)
{
	DefineCustomStringVariable("ringfence.audit_key_file",
							   "File with the Ed25519 private key that audit_seal() signs with.",
							   NULL, &audit_key_file, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY | GUC_NOT_IN_SAMPLE,
							   NULL, NULL, NULL);
}
