# shellcheck shell=bash disable=SC2034,SC2154 # the files share their variables
# Checks addresses, names, address ranges and the endpoint that a user gives.

is_ipv4() {
  local pattern='^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$' part
  [[ "$1" =~ $pattern ]] || return 1
  for part in "${BASH_REMATCH[@]:1}"; do
    [[ "$part" == 0 || "$part" != 0* ]] && ((part <= 255)) || return 1
  done
}

# Prints the groups of an IPv6 address as openssl does: 2001:DB8:0:0:0:0:0:1. Fails if it is none.
ipv6_groups() {
  local address="$1" head tail="" group groups=0 out=""
  [[ "$address" == *:*:* && "$address" != *[!0-9A-Fa-f:]* && "$address" != *:::* ]] || return 1
  head="$address"
  if [[ "$address" == *::* ]]; then
    head="${address%%::*}" tail="${address#*::}"
    [[ "$tail" != *::* ]] || return 1
    tail="$(printf '%s' "$tail" | tr ':' ' ')"
    groups="$(printf '%s %s' "${head//:/ }" "$tail" | wc -w)"
    ((groups <= 7)) || return 1
    while ((groups < 8)); do
      tail="0 $tail"
      groups=$((groups + 1))
    done
  elif [[ "$address" == :* || "$address" == *: ]]; then
    return 1
  fi
  groups=0
  for group in ${head//:/ } $tail; do
    ((${#group} <= 4)) || return 1
    out="$out:$(printf '%X' "0x$group")"
    groups=$((groups + 1))
  done
  ((groups == 8)) || return 1
  printf '%s\n' "${out#:}"
}

is_ipv6() { ipv6_groups "$1" >/dev/null; }
is_address() { is_ipv4 "$1" || is_ipv6 "$1"; }

is_dns_name() {
  local label='[a-z0-9]([-a-z0-9_]{0,61}[a-z0-9])?'
  local pattern="^($label\.)*$label$" last="${1##*.}"
  # A name whose last part is a number is read as an IPv4 address by many resolvers.
  ((${#1} <= 253)) && [[ "$1" =~ $pattern && "$last" == *[!0-9]* ]]
}

# Sets `invalid` and fails if $1 is no CIDR.
check_cidr() {
  local address="${1%/*}" length="${1##*/}" groups group value bits
  invalid="\"$1\" is no address range; write it like 203.0.113.10/32 or 2001:db8::/56"
  [[ "$1" == */* && "$length" != *[!0-9]* && "$length" != 0[0-9]* ]] || return 1
  ((${#length} >= 1 && ${#length} <= 3)) || return 1
  if is_ipv4 "$address"; then
    ((length <= 32)) || return 1
    value=0
    for group in ${address//./ }; do value=$((value * 256 + group)); done
    bits=$((32 - length))
    (((value & ((1 << bits) - 1)) == 0)) && return 0
  else
    groups="$(ipv6_groups "$address")" && ((length <= 128)) || return 1
    bits="$length"
    for group in ${groups//:/ }; do
      ((bits = bits < 0 ? 0 : bits))
      value=$((bits >= 16 ? 0 : 0x$group & ((1 << (16 - bits)) - 1)))
      ((value == 0)) || break
      bits=$((bits - 16))
    done
    ((value == 0)) && return 0
  fi
  invalid="\"$1\" has bits behind its prefix; write the first address of the range"
  return 1
}

warn_of_range() {
  case "$2" in
    0.0.0.0/0 | ::/0) warn "$1: $2 lets in everybody" ;;
    192.0.2.* | 198.51.100.* | 203.0.113.* | 2001:db8:* | 2001:DB8:*)
      warn "$1: $2 is an address of documentation, from which nobody can send" ;;
    10.* | 192.168.* | 172.1[6-9].* | 172.2[0-9].* | 172.3[01].* | [Ff][CcDd]*)
      warn "$1: $2 is private: a public load balancer sees the public address of the spoke's NAT" ;;
    *) ;;
  esac
}

# Takes what a user may give as the endpoint. Sets endpoint_url and endpoint_host, the host without
# brackets; or sets `invalid` and fails. Arguments: text port may_be_http
parse_endpoint() {
  local text="$1" port="$2" scheme=https rest authority host own_port="" path bracketed
  local in_brackets='^\[([^]]*)\](:([0-9]+))?$' plain='^([^:]*)(:([0-9]+))?$'
  invalid="the endpoint is empty"
  [[ -n "$text" ]] || return 1
  invalid="the endpoint has a character that no URL has"
  [[ "$text" != *[!A-Za-z0-9._~:/@?\#%\[\]-]* ]] || return 1
  case "$text" in
    https://*) rest="${text#https://}" ;;
    http://*)
      invalid="http:// would send the token in the clear; use https://, or --insecure-http"
      (($3)) || return 1
      scheme=http rest="${text#http://}" ;;
    *://*)
      invalid="the endpoint must begin with https://"
      return 1 ;;
    *) rest="$text" ;;
  esac
  authority="$(printf '%s' "${rest%%/*}" | tr '[:upper:]' '[:lower:]')"
  path=""
  [[ "$rest" != */* ]] || path="/${rest#*/}"
  invalid="the endpoint must not have a user name; the token is in the spoke's Secret"
  [[ "$rest" != *@* ]] || return 1
  invalid="the endpoint must have no \"?\", \"#\" and \"%\""
  [[ "$rest" != *[?\#%]* ]] || return 1
  invalid="\"$path\" is no path; leave it out for /api/v1/write"
  [[ -n "$path" && "$path" != / ]] || path=/api/v1/write
  [[ "$path" != *//* && "$path" != */ && "$path" != *[:\[\]]* ]] || return 1

  invalid="\"$authority\" is no host name, IPv4 address or [IPv6] address, with a port or without"
  if [[ "$authority" =~ $in_brackets ]]; then
    host="${BASH_REMATCH[1]}" own_port="${BASH_REMATCH[3]:-}"
    is_ipv6 "$host" || return 1
  elif is_ipv6 "$authority"; then
    host="$authority"
  elif [[ "$authority" =~ $plain ]]; then
    host="${BASH_REMATCH[1]%.}" own_port="${BASH_REMATCH[3]:-}"
    is_ipv4 "$host" || is_dns_name "$host" || return 1
  else
    return 1
  fi
  invalid="nobody can connect to $host"
  [[ "$host" != 0.0.0.0 && "$host" != :: ]] || return 1
  invalid="the endpoint has the port $own_port, and --port says $port"
  [[ -z "$own_port" || -z "$port" || "$own_port" == "$port" ]] || return 1
  own_port="${own_port:-$port}"
  invalid="\"$own_port\" is no port"
  [[ -z "$own_port" ]] || is_port "$own_port" || return 1
  case "$scheme:$own_port" in https:443 | http:80) own_port="" ;; *) ;; esac

  bracketed="$host"
  ! is_ipv6 "$host" || bracketed="[$host]"
  endpoint_host="$host"
  endpoint_url="$scheme://$bracketed${own_port:+:$own_port}$path"
  invalid=""
}

is_port() { [[ "$1" != *[!0-9]* && "$1" != 0* ]] && ((${#1} <= 5 && $1 <= 65535)); }
