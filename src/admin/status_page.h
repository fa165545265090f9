/* The status page's style and script, which the build puts into the program (src/admin/page/), and what the
 * browser may do with the page. */
#ifndef RETRYD_ADMIN_STATUS_PAGE_H
#define RETRYD_ADMIN_STATUS_PAGE_H

#include "base/str.h"

struct str status_page_style(void);
struct str status_page_script(void);

/* The Content-Security-Policy: nothing from elsewhere, and no style or script but these two, by their hashes. */
const char *status_page_policy(void);

#endif
