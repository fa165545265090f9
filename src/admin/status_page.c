/* Has the status page's style and script, and the policy that allows them alone. */
#include "admin/status_page.h"

#include <status_page_data.h> /* made by the build from src/admin/page/ */

struct str status_page_style(void)
{
    return (struct str){(const char *)style, sizeof(style)};
}

struct str status_page_script(void)
{
    return (struct str){(const char *)script, sizeof(script)};
}

const char *status_page_policy(void)
{
    return "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
           "img-src data:; connect-src 'self'; style-src 'sha256-" STYLE_HASH
           "'; script-src 'sha256-" SCRIPT_HASH "'";
}
