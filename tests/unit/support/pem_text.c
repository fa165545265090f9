/* Texts in PEM. */
#include "pem_text.h"

const char pem_certificate[] = "-----BEGIN CERTIFICATE-----\n"
                               "MIIBhjCCASugAwIBAgIUTxCj4tI26vEg5elxpXeGqzFq4tgwCgYIKoZIzj0EAwIw\n"
                               "FzEVMBMGA1UEAwwMcmV0cnlkIHRlc3RzMCAXDTI2MTIwMTA0MzEyM1oYDzIxMjYx\n"
                               "MTA3MDQzMTIzWjAXMRUwEwYDVQQDDAxyZXRyeWQgdGVzdHMwWTATBgcqhkjOPQIB\n"
                               "BggqhkjOPQMBBwNCAATJuHgAbyyvHIGMuyALnzClsdCbmzQAF6lIx00YdHLCdGuQ\n"
                               "+apW+4Mb7Vl1W/A7dL+6ihoAjuNHckDSj+GNe3N8o1MwUTAdBgNVHQ4EFgQU03ql\n"
                               "X+wu/P/CQ6V1oeG128KV9xYwHwYDVR0jBBgwFoAU03qlX+wu/P/CQ6V1oeG128KV\n"
                               "9xYwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEA7Cx9QltAkM0n\n"
                               "Wpa6DPcXZ2PoZFQ84bJvTWhmqSi8A/0CIQCWiwRggnPPTIFXvH24zGdmg4fQbZeT\n"
                               "F+zqcKM96xLRFA==\n"
                               "-----END CERTIFICATE-----\n";

const char pem_key[] = "-----BEGIN PRIVATE KEY-----\n"
                       "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgNclm1H6Jg0In2d9i\n"
                       "7xkaES9LmHxlSKz+sfXv71zLTlWhRANCAATJuHgAbyyvHIGMuyALnzClsdCbmzQA\n"
                       "F6lIx00YdHLCdGuQ+apW+4Mb7Vl1W/A7dL+6ihoAjuNHckDSj+GNe3N8\n"
                       "-----END PRIVATE KEY-----\n";

const char pem_other_key[] = "-----BEGIN PRIVATE KEY-----\n"
                             "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQghsvyfwlvwvUu3Vxr\n"
                             "Hb5vw5B98CicW3v3GqomkGRdfsChRANCAAQJ0tiqpP39I9xr6SnN5RgL3ZjNMu0w\n"
                             "2eKNb6NHEayqlD3idGrPgwNT770gM2W8JnvTZFJg3SFw5l9UBXMd7A8L\n"
                             "-----END PRIVATE KEY-----\n";
