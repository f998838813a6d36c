# shellcheck shell=bash disable=SC2034,SC2154 # the files share their variables
# The declarations deploy/clusters/*/spoke.env, and what follows from them. All edits are made in a
# copy of them, "$stage", which is checked before any of it replaces a file of the project.

declaration() { printf '%s/clusters/%s/spoke.env\n' "$stage" "$1"; }

get() {
  awk -v key="$2=" 'index($0, key) == 1 { print substr($0, length(key) + 1); exit }' \
    "$(declaration "$1")"
}

put() {
  local file
  file="$(declaration "$1")"
  awk -v key="$2=" -v value="$3" '
    index($0, key) == 1 { if (!done++) print key value; next }
    { print }
    END { if (!done) print key value }' "$file" >"$tmp/declaration"
  cat "$tmp/declaration" >"$file"
}

is_cluster_name() {
  local pattern='^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'
  [[ "$1" =~ $pattern ]] || return 1
  case "$1" in unknown | hub | base | components) return 1 ;; *) ;; esac
}

require_cluster_name() {
  is_cluster_name "$1" ||
    misuse "\"$1\" cannot be the name of a cluster: up to 63 of a-z, 0-9 and \"-\", which" \
      "begin and end with a letter or digit; not unknown, hub, base, components"
}

stage_declarations() {
  local file name
  clusters=()
  mkdir -p "$stage/clusters" "$stage/gateway/overlays/hub"
  for file in "$deploy"/clusters/*/spoke.env; do
    [[ -f "$file" ]] || continue
    name="$(basename "$(dirname "$file")")"
    [[ "$name" != _* ]] || continue
    clusters+=("$name")
    mkdir "$stage/clusters/$name"
    cat "$file" >"$(declaration "$name")"
  done
}

# Makes the folder of a new cluster from the template, in the copy.
stage_new_cluster() {
  local from to template="$deploy/clusters/_template"
  if [[ -e "$stage/clusters/$new_cluster" ]]; then
    say "unchanged  deploy/clusters/$new_cluster is there already"
    return
  fi
  [[ ! -e "$deploy/clusters/$new_cluster" ]] ||
    die "deploy/clusters/$new_cluster is there, but has no spoke.env"
  [[ -f "$template/spoke.env" ]] || die "deploy/clusters/_template is not there"
  cp -R "$template" "$stage/clusters/$new_cluster"
  while IFS= read -r -d '' from; do
    sed "s/CLUSTER_NAME/$new_cluster/g" "$from" >"$tmp/file"
    cat "$tmp/file" >"$from"
    to="$(dirname "$from")/$(basename "$from" | sed "s/CLUSTER_NAME/$new_cluster/g")"
    [[ "$from" == "$to" ]] || mv "$from" "$to"
  done < <(find "$stage/clusters/$new_cluster" -type f -print0)
  clusters+=("$new_cluster")
}

problem() {
  complain "$@"
  problems=$((problems + 1))
}

check_declaration() {
  local name="$1" file="deploy/clusters/$1/spoke.env" repeated wrong value range issuer options
  is_cluster_name "$name" || problem "deploy/clusters/$name: not a name for a cluster"
  if grep -q "$(printf '\r')" "$(declaration "$name")"; then
    problem "$file: lines must end in LF, not CR LF"
    return 0
  fi
  # kustomize trims lines, and takes what has no "=" from the environment.
  wrong="$(grep -anEv '^(#.*|[a-z_]+=.*)?$' "$(declaration "$name")" | cut -d : -f 1 | tr '\n' ' ')"
  [[ -z "$wrong" ]] || problem "$file: neither key=value nor a comment is in line ${wrong% }"
  repeated="$(sed -n 's/^\([^#=]*\)=.*/\1/p' "$(declaration "$name")" | sort | uniq -d)"
  [[ -z "$repeated" ]] || problem "$file: given twice: $(printf '%s' "$repeated" | tr '\n' ' ')"
  value="$(get "$name" cluster)"
  [[ "$value" == "$name" ]] || problem "$file: cluster=$value differs from the folder's name"
  value="$(get "$name" url)"
  if ! parse_endpoint "$value" "" 1; then
    problem "$file: url=$value is no URL of a gateway"
  elif [[ "$value" != https://* && "$value" != http://* ]]; then
    problem "$file: url=$value must be a whole URL"
  elif [[ "$value" == http://* ]] && ((!insecure_http)); then
    warn "$file: url=$value sends the token in the clear"
  fi
  value="$(get "$name" server_name)"
  is_address "$value" || is_dns_name "$value" ||
    problem "$file: server_name=$value is neither a name nor an address"
  value="$(get "$name" source_ranges)"
  [[ -n "$value" && "$value" != *,, && "$value" != ,* && "$value" != *, ]] ||
    problem "$file: source_ranges=$value has an empty element"
  while IFS= read -r range; do
    [[ -n "$range" ]] || continue
    if check_cidr "$range"; then warn_of_range "$file" "$range"; else problem "$file: $invalid"; fi
  done < <(printf '%s\n' "$value" | tr ',' '\n')
  issuer="$(get "$name" issuer)"
  options="$(grep -rhE '^ *- .*/service-account-token/?$' --include=kustomization.yaml \
    "$deploy/clusters/$name" 2>/dev/null || true)"
  value="$(get "$name" credential)"
  case "$value" in
    token) [[ -z "$options" ]] ||
      problem "$file: credential=token, but a kustomization uses service-account-token" ;;
    service-account)
      [[ -n "$options" ]] ||
        problem "$file: credential=service-account, but no kustomization uses service-account-token"
      [[ "$issuer" != *[\"\\[:space:]]* ]] || problem "$file: issuer=$issuer is no URL" ;;
    *) problem "$file: credential=$value must be token or service-account" ;;
  esac
}

render_source_ranges() {
  local name
  printf '%s\n' \
    "# Generated by deploy/configure-source-clusters.sh from deploy/clusters/*/spoke.env; do not edit." \
    "apiVersion: v1" "kind: Service" "metadata:" "  name: hubgate" "  namespace: hubgate" \
    "spec:" "  loadBalancerSourceRanges:"
  for name in "${clusters[@]}"; do
    get "$name" source_ranges | tr ',' '\n'
  done | sort -u | sed -e 's/^.*:.*$/"&"/' -e 's/^/    - /'
}

source_ranges_file=gateway/overlays/hub/source-ranges.yaml

# Checks the copy, and completes it with what follows from the declarations.
complete_stage() {
  local name
  problems=0
  ((${#clusters[@]} > 0)) || die "no cluster is declared: there is no deploy/clusters/*/spoke.env"
  for name in "${clusters[@]}"; do
    check_declaration "$name"
  done
  ((problems == 0)) || return 1
  render_source_ranges >"$stage/$source_ranges_file"
}

# Puts the copy of one file into its place, if it differs. A reader sees the old or the new one.
install_file() {
  local staged="$stage/$1" real="$deploy/$1" new
  if cmp -s "$staged" "$real"; then
    say "unchanged  deploy/$1"
    return
  fi
  if ((dry_run)); then
    say "would change  deploy/$1"
    [[ -e "$real" ]] || real=/dev/null
    diff -u -L "a/deploy/$1" -L "b/deploy/$1" "$real" "$staged" || true
    return
  fi
  mkdir -p "$(dirname "$real")"
  if [[ -L "$real" ]]; then
    # What it points to may be used elsewhere as well, so it has to stay a link.
    cat "$staged" >"$real"
    say "changed    deploy/$1"
    return
  fi
  new="$(mktemp "$(dirname "$real")/.configure.XXXXXX")"
  leftovers+=("$new")
  if [[ -e "$real" ]]; then cp -p "$real" "$new"; else chmod 644 "$new"; fi
  cat "$staged" >"$new"
  mv -f "$new" "$real"
  say "changed    deploy/$1"
}

install_stage() {
  local name folder new
  for name in "${clusters[@]}"; do
    if [[ -e "$deploy/clusters/$name" ]]; then
      install_file "clusters/$name/spoke.env"
    elif ((dry_run)); then
      folder="$stage/clusters/$name"
      (cd "$folder" && find . -type f) | sort | while IFS= read -r new; do
        install_file "clusters/$name/${new#./}"
      done
    else
      new="$(mktemp -d "$deploy/clusters/.configure.XXXXXX")"
      leftovers+=("$new")
      cp -R "$stage/clusters/$name" "$new/$name"
      mv "$new/$name" "$deploy/clusters/$name"
      say "changed    deploy/clusters/$name is new"
    fi
  done
  install_file "$source_ranges_file"
}
