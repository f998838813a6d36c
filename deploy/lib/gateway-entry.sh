# shellcheck shell=bash disable=SC2034,SC2154 # the files share their variables
# Tokens, and the entry of a spoke in the gateway's configuration.

# Makes a token of 256 bits, into `value`.
new_token() {
  value="$(openssl rand 32 | openssl base64 | tr '+/' '-_' | tr -d '=\n')"
  ((${#value} == 43)) || die "openssl made no token"
}

is_token() {
  local pattern='^[A-Za-z0-9._~+/-]+=*$'
  ((${#1} >= 20)) && [[ "$1" =~ $pattern ]]
}

digest() {
  if [[ "$1" == "$not_yet_made" ]]; then
    printf '(the SHA-256 of the new token)\n'
  else
    printf '%s' "$1" | openssl dgst -sha256 -r | cut -c 1-64
  fi
}

# Stands for a token where none may be made.
not_yet_made='(a new token)'

header_of() {
  printf '# From deploy/clusters/%s/spoke.env, by deploy/configure-source-clusters.sh.' "$1"
}

# Reads the gateway's entry of a spoke into `entry`, its credentials into `credentials`, and the keys
# that are not the script's, such as limits, into `others`. What is made of them may only replace the
# `spokes_version` of the Secret: another run may add a token in the meantime.
read_entry() {
  local line key="" header plain_key='^[a-z_]+:( |$)'
  header="$(header_of "$1")"
  credentials=() others="" spokes_version=""
  if [[ "$target" == none ]]; then entry=""; else
    [[ "$target" != cluster ]] ||
      spokes_version="$(kubectl_in hub --namespace hubgate get secret hubgate-spokes \
        --ignore-not-found --output 'jsonpath={.metadata.resourceVersion}')" ||
      die "Secret hubgate-spokes of hub cannot be read"
    read_secret hub hubgate hubgate-spokes "$1.yaml"
    entry="$value"
  fi
  while IFS= read -r line || [[ -n "$line" ]]; do
    [[ "$line" != "$header" && -n "$line" ]] || continue
    case "$line" in
      credentials:) key=credentials && continue ;;
      name:* | source_ranges:*) key=ours && continue ;;
      "#"*) others+="$line"$'\n' && continue ;;
      " "*) ;;
      credentials:*) key=foreign ;;
      *) if [[ "$line" =~ $plain_key ]]; then key=others; else key=foreign; fi ;;
    esac
    case "$key:$line" in
      credentials:"  - "*) credentials+=("$line") ;;
      credentials:"   "*)
        ((${#credentials[@]} > 0)) || die_of_entry "$1"
        credentials[${#credentials[@]} - 1]+=$'\n'"$line" ;;
      ours:*) ;;
      others:*) others+="$line"$'\n' ;;
      *) die_of_entry "$1" ;;
    esac
  done < <(printf '%s' "$entry")
}

die_of_entry() {
  die "key $1.yaml of the hub's Secret hubgate-spokes is not in the form that this script writes;" \
    "put each element of credentials on lines of its own, indented by two spaces"
}

render_entry() {
  local name="$1" credential
  header_of "$name"
  printf '\nname: "%s"\nsource_ranges:\n' "$name"
  get "$name" source_ranges | tr ',' '\n' | sed 's/.*/  - "&"/'
  printf 'credentials:\n'
  for credential in "${credentials[@]}"; do printf '%s\n' "$credential"; done
  printf '%s' "$others"
}

# Adds the credential of a token.
add_token() {
  local sha256
  sha256="$(digest "$1")"
  [[ "$1" == "$not_yet_made" || ${#sha256} == 64 ]] || die "openssl made no digest"
  add_credential "  - token_sha256: $sha256"
}

jwt_credential() {
  printf '  - jwt:\n      issuer: "%s"\n      audience: "hubgate-%s"\n' "$2" "$1"
  printf '      subject: "%s"\n' "$service_account"
  printf '      jwks_file: /etc/hubgate/spokes/%s.jwks.json' "$1"
}

service_account=system:serviceaccount:monitoring:kube-prometheus-stack-prometheus

# Prints how the metrics name a credential that the script made; fails for any other.
label_of() {
  local pattern='^  - token_sha256: "?([0-9A-Fa-f]{8})'
  if [[ "$1" =~ $pattern ]]; then
    printf 'token_sha256:%s\n' "${BASH_REMATCH[1]}" | tr '[:upper:]' '[:lower:]'
  elif [[ "$1" == "  - jwt:"* && "$1" == *"/etc/hubgate/spokes/"*".jwks.json"* ]]; then
    printf 'jwt:%s\n' "$service_account"
  else
    return 1
  fi
}

# Adds a credential, or replaces the one with the same label.
add_credential() {
  local i label
  label="$(label_of "$1" || true)"
  for ((i = 0; i < ${#credentials[@]}; i++)); do
    [[ -n "$label" && "$(label_of "${credentials[i]}" || true)" == "$label" ]] || continue
    # A token's line may carry a not_after of the user's.
    [[ "$label" == token_sha256:* ]] || credentials[i]="$1"
    return
  done
  credentials+=("$1")
}

count_own_credentials() {
  local credential count=0
  for credential in ${credentials[@]+"${credentials[@]}"}; do
    ! label_of "$credential" >/dev/null || count=$((count + 1))
  done
  say "$count"
}

# Stores the gateway's entry, and with a second argument the keys of the issuer, as keys of the hub's
# Secret. The keys of other spokes stay.
store_entry() {
  local name="$1" jwks="${2:-}" text file line keys=()
  text="$(render_entry "$name")"
  read_secret hub hubgate hubgate-spokes "$name.jwks.json"
  [[ -n "$jwks" ]] || jwks="$value" # a credential that is still in the entry may need it
  say "$(count_own_credentials)" >"$tmp/credentials.$name"
  if [[ "$text" == "${entry%$'\n'}" && "$jwks" == "$value" ]]; then
    say "unchanged  hub: Secret hubgate/hubgate-spokes, $name.yaml"
    return
  fi
  if ! may_write; then
    say "for hub: Secret hubgate/hubgate-spokes, $name.yaml"
    printf '%s\n' "$text" | sed 's/^/    /'
    return
  fi
  : >"$tmp/changed.$name"
  keys=("$name.yaml=$(printf '%s\n' "$text" | base64_encode)")
  [[ -z "$jwks" ]] || keys+=("$name.jwks.json=$(printf '%s' "$jwks" | base64_encode)")
  if [[ "$target" == files ]]; then
    file="$(manifest_file hub hubgate-spokes)"
    while IFS= read -r line; do
      keys+=("${line%%: *}=${line#*: }")
    done < <(sed -n '/^data:/,$ s/^  \(.*: \)/\1/p' "$file" 2>/dev/null |
      grep -v -e "^$name\.yaml: " -e "^$name\.jwks\.json: ")
    secret_manifest hubgate hubgate-spokes Opaque "${keys[@]}" |
      store hub hubgate-spokes "Secret hubgate/hubgate-spokes, $name.yaml"
    return
  fi
  if [[ -z "$spokes_version" ]]; then
    secret_manifest hubgate hubgate-spokes Opaque "${keys[@]}" |
      store hub hubgate-spokes "Secret hubgate/hubgate-spokes, $name.yaml" new ||
      die_of_another_run "$name"
    return
  fi
  {
    printf '{"metadata":{"resourceVersion":"%s"},"data":{' "$spokes_version"
    for ((line = 0; line < ${#keys[@]}; line++)); do
      ((line == 0)) || printf ','
      printf '"%s":"%s"' "${keys[line]%%=*}" "${keys[line]#*=}"
    done
    printf '}}\n'
  } | kubectl_in hub --namespace hubgate patch secret hubgate-spokes --type merge \
    --patch-file /dev/stdin >/dev/null || die_of_another_run "$name"
  changed hub "Secret hubgate/hubgate-spokes, $name.yaml"
}

die_of_another_run() {
  die "the entry of $1 is not stored; if the Secret was changed in the meantime, run this again"
}

# Stores the spoke's Secret. Arguments: spoke token next what
store_token() {
  local keys=()
  [[ -z "$2" ]] || keys+=("token=$(printf '%s' "$2" | base64_encode)")
  [[ -z "$3" ]] || keys+=("token-next=$(printf '%s' "$3" | base64_encode)")
  secret_manifest monitoring hubgate Opaque "${keys[@]}" |
    store "$1" hubgate "Secret monitoring/hubgate, $4"
}
