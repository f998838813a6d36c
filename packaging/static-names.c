/* Lets a static hubgate look up names in /etc/hosts and DNS only, whatever /etc/nsswitch.conf says.
 *
 * The C library would load the modules that this file names, from the system that hubgate runs on.
 * They are made for the C library of that system: with another version, the process crashes. */

#include <nss.h>

__attribute__((constructor)) static void look_up_names_in_files_and_dns(void)
{
    __nss_configure_lookup("hosts", "files dns");
}
