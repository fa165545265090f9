/* Which targets a request's model rules out: some have to be told another name, where none can be. */
#include <stdio.h>

#include "exchange/exchange_private.h"

#define SHOWN_MAX 60 /* characters of a client's word in a sentence */

/* "{model}" in its url becomes the model's name. */
static bool is_in_url(const struct upstream *p)
{
    return strstr(p->base_path, "{model}") != NULL;
}

/* The path names it behind the route's base, where another can take its place. */
static bool is_in_path(const struct exchange *x)
{
    return x->request.path_model_n > 0 && x->request.path_model_at >= x->plan.base.n;
}

bool unfit_is(const struct exchange *x, const struct upstream *p, struct str model)
{
    const struct request *r = &x->request;

    if (model.n == 0) /* one that is hidden may be one of those that are renamed */
        return is_in_url(p) || (r->model_hidden && p->model_count > 0);
    if (!body_is_packed(&r->body) || r->body.length == 0 || is_in_url(p) || is_in_path(x))
        return false;
    return !str_eq(target_own_model(p, model), str_from(r->model));
}

bool unfit_all(const struct exchange *x, struct str model)
{
    for (unsigned i = 0; i < x->plan.upstream_count; i++)
        if (!unfit_is(x, x->plan.upstreams[i], model))
            return false;
    return true;
}

bool unfit_fallbacks(const struct exchange *x)
{
    for (unsigned i = 0; i < x->plan.fallback_count; i++)
        if (!unfit_all(x, str_from(x->plan.fallback_models[i])))
            return false;
    return x->plan.fallback_count > 0;
}

/* --- the error that says so --------------------------------------------------------------------- */

/* Why the model of a packed body is not known. */
static void why_hidden(const struct exchange *x, char *ret, size_t size)
{
    struct str encoding = {NULL, 0};
    char shown[SHOWN_MAX];

    (void)headers_get(&x->request.http.headers, STR("content-encoding"), &encoding);
    str_shown(shown, sizeof(shown), encoding);
    switch (body_packed_state(&x->request.body)) {
    case PACKED_UNKNOWN:
        snprintf(ret, size, "cannot be read in the encoding \"%s\"; gzip, deflate and zstd can",
                 shown);
        break;
    case PACKED_LONG:
        snprintf(ret, size, "does not stand in the first %llu MiB of a body in the encoding \"%s\"",
                 (unsigned long long)(x->request.body.packed->plain >> 20), shown);
        break;
    default:
        snprintf(ret, size, "cannot be read, for the body is not valid in its encoding \"%s\"",
                 shown);
    }
}

void unfit_tell_hidden(struct exchange *x, const char *need)
{
    char why[160], text[400];

    why_hidden(x, why, sizeof(why));
    snprintf(text, sizeof(text),
             "retryd: %s the request's model, which %s; send the body without Content-Encoding",
             need, why);
    relay_own_error(x, END_REFUSED, 400, REASON_CLIENT_ERROR, "model_not_readable", text);
}

static void tell_unfit(struct exchange *x, const struct upstream *p)
{
    char text[400], shown[SHOWN_MAX];
    struct str model = str_from(x->request.model);

    if (x->request.model_hidden) {
        snprintf(text, sizeof(text), "upstream %.60s %s", p->name,
                 is_in_url(p) ? "has {model} in its url, and so retryd needs"
                              : "has its own names for models, and so retryd needs");
        unfit_tell_hidden(x, text);
        return;
    }
    if (model.n == 0) {
        snprintf(text, sizeof(text),
                 "retryd: upstream %.60s has {model} in its url, and this request names no model",
                 p->name);
        relay_own_error(x, END_REFUSED, 400, REASON_CLIENT_ERROR, "model_required", text);
        return;
    }
    str_shown(shown, sizeof(shown), model);
    snprintf(text, sizeof(text),
             "retryd: upstream %.60s has another name for the model \"%s\", and in a body with "
             "Content-Encoding it cannot be replaced; send the body without",
             p->name, shown);
    relay_own_error(x, END_REFUSED, 400, REASON_CLIENT_ERROR, "model_not_replaceable", text);
}

static bool cannot_stand_in_url(const struct exchange *x)
{
    struct str model = str_from(x->request.model);

    if (!str_eq(model, STR(".")) && !str_eq(model, STR("..")))
        return false;
    for (unsigned i = 0; i < x->plan.upstream_count; i++)
        if (is_in_url(x->plan.upstreams[i]))
            return true;
    return false;
}

bool unfit_refused(struct exchange *x)
{
    if (cannot_stand_in_url(x)) {
        relay_own_error(x, END_REFUSED, 400, REASON_CLIENT_ERROR, "invalid_model",
                        "retryd: this model's name cannot stand in a path");
        return true;
    }
    if (!unfit_all(x, str_from(x->request.model)))
        return false;
    tell_unfit(x, x->plan.upstreams[0]);
    return true;
}
