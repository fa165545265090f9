/* --health: asks the admin listener's /healthz. */
#include <stdbool.h>
#include <string.h>

#include "daemon/cli.h"
#include "edge/fetch.h"

/* Not "off", nor a port that any could be. */
static bool can_be_asked(const char *address)
{
    const char *colon = strrchr(address, ':');
    uint64_t port;

    return str_starts(str_from(address), STR("unix:")) ||
           (colon && str_to_u64(str_from(colon + 1), &port) && port > 0);
}

enum cli_exit cli_health(const char *address, unsigned patience_ms, FILE *out, FILE *err)
{
    int rc;

    if (!can_be_asked(address)) {
        fprintf(err, "retryd: cannot ask for its health: [admin] listen is %s\n", address);
        return CLI_FAILED;
    }
    rc = fetch_status(address, "/healthz", patience_ms);
    if (rc == 200) {
        fprintf(out, "retryd is well: %s answers\n", address);
        return CLI_OK;
    }
    if (rc >= 0)
        fprintf(err, "retryd is not well: %s answers %d\n", address, rc);
    else
        fprintf(err, "retryd does not answer: %s: %s\n", address, strerror(-rc));
    return CLI_FAILED;
}
