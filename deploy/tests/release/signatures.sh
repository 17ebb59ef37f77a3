# The signatures of a release. Sourced by run.sh.

cd "$work/source/dist"
# README.md's own lines, for our registry, one command a file.
awk '/^## Verify/ {found = 1} /^## / && !/Verify/ {found = 0} found && /^```$/ {code = 0} code {print} found && /^```sh$/ {code = 1}' \
	"$root/README.md" | sed "s#ghcr\.io/fhir-introspection-sidecar#$own#; s/v0\.1\.0/$tag/g" >"$work/readme"
awk '/^$/ {exit} {print}' "$work/readme" >"$work/setting"
grep -E '^(cosign|sha256sum) ' "$work/readme" >"$work/lines"
(($(wc -l <"$work/lines") == 6)) || fail "README.md has other lines than six: $(cat "$work/lines")"
sed -n '/^digest=/,$p' "$work/readme" >"$work/install"
grep -q '^helm install ' "$work/install" || fail "README.md installs nothing that was verified"
printf 'settings: {introspectionEndpoint: "https://as.example.org/introspect"}\nfiles: {bearerToken: {secret: s, key: k}}\n' >values.yaml

# says LINES runs those, and prints what they say into $work/said.
says() { PATH=$work/path:$PATH bash -c "$(cat "$work/setting")"$'\n'"$1" >"$work/said" 2>&1; }
# refused LINES WHAT [BECAUSE] wants them to fail, and to say why.
refused() {
	! says "$1" || fail "accepted $2: $1"$'\n'"$(cat "$work/said")"
	grep -q "${3:-}" "$work/said" || fail "refused $2, but not because of: $3"$'\n'"$(cat "$work/said")"
}
stranger='no matching CertificateIdentity found'
while read -r line; do
	says "$line" || fail "$line"$'\n'"$(cat "$work/said")"
	[[ $line == cosign* ]] || continue
	# By a fork, by another workflow, of another release.
	for change in 's#com/fhir-introspection-sidecar/#com/someone/#' 's#release\.yml#ci.yml#' "s#tags/$tag#tags/v9.9.9#" \
		's#token\.actions\.githubusercontent\.com#gitlab.com#'; do
		refused "$(sed "$change" "$work/setting")"$'\n'"$line" "after $change" "$stranger"
	done
done <"$work/lines"
ok "README.md's lines verify image, chart and files, for that workflow and tag only"

predicate() { jq -r .payload "$work/said" | head -1 | base64 -d | jq -r "$1"; }
image=$(sed -n 2p "$work/lines")
says "$image 2>/dev/null"
[[ $(predicate '.predicate.buildDefinition.resolvedDependencies[0].digest.gitCommit') == "$(git rev-parse HEAD)" ]] ||
	fail "the provenance names another commit: $(cat "$work/said")"
[[ $(predicate .predicate.runDetails.builder.id) == "https://github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/.github/workflows/release.yml@refs/tags/$tag" ]] ||
	fail "the provenance names another builder: $(cat "$work/said")"
ok "the provenance names the commit and the workflow"

says "$(cat "$work/install")" || fail "helm install: $(cat "$work/said")"
grep -q 'kind: Deployment' "$work/said" || fail "helm install: $(cat "$work/said")"
ok "the chart installs by the digest that was verified"

# --- what was changed ------------------------------------------------------------
lines() { grep -F -- "$1" "$work/lines" || fail "README.md has no line with $1"; }
for file in checksums.txt checksums.txt.sigstore.json checksums.txt.provenance.sigstore.json; do
	cp $file "$work/kept"
	case $file in
	checksums.txt) sed -i '1s/^./x/' $file ;;
	*) jq -c '(.. | .signature? // .sig? | strings) |= "MEUCIQDx" + .[8:]' "$work/kept" >$file ;;
	esac
	! cmp -s $file "$work/kept" || fail "$file wasn't changed"
	while read -r line; do
		# Each of the two signatures is of one line.
		[[ $file == checksums.txt || $line == *"--bundle $file "* ]] || continue
		refused "$line" "with $file changed"
	done < <(lines --bundle)
	cp "$work/kept" $file
done
archive=$(ls ./*_linux_amd64.tar.gz)
cp "$archive" "$work/kept"
printf x | dd of="$archive" bs=1 seek=1000 conv=notrunc status=none
refused "$(lines sha256sum)" "an archive that was changed"
cp "$work/kept" "$archive"
# Somebody else's files, signed as his own.
echo ci >"$work/identity"
cp checksums.txt.sigstore.json "$work/kept"
"$work/path/cosign" sign-blob --yes --bundle=checksums.txt.sigstore.json checksums.txt >"$work/said" 2>&1 || fail "$(cat "$work/said")"
refused "$(lines 'verify-blob ')" "files signed by another workflow" "$stranger"
cp "$work/kept" checksums.txt.sigstore.json
ok "changed files and signatures, and those of another workflow, are refused"

# An image and a chart that take the place of ours.
mkdir "$work/evil"
echo evil >"$work/evil/evil"
printf 'FROM scratch\nCOPY evil /\n' >"$work/evil/Dockerfile"
storage=(--root "$work/buildah/store" --runroot "$work/buildah/run" --storage-driver vfs)
buildah "${storage[@]}" bud -q --isolation chroot -t "$own/fhir-introspection-sidecar:$version" "$work/evil" >/dev/null
tar -xzf <("$helm" package "$root/charts/fhir-introspection-sidecar" -d "$work/evil" >/dev/null && cat "$work/evil"/*.tgz) -C "$work/evil"
echo '# changed' >>"$work/evil/fhir-introspection-sidecar/values.yaml"
"$helm" package "$work/evil/fhir-introspection-sidecar" -d "$work/evil" >/dev/null

# digest NAME prints what a tag names.
digest() { skopeo inspect --raw --tls-verify=false "docker://$1" | sha256sum | cut -d' ' -f1; }
replace() {
	case $1 in
	*/charts/*) "$helm" push "$work/evil/fhir-introspection-sidecar-$version.tgz" "oci://$own/charts" --plain-http >"$work/said" 2>&1 ;;
	*) buildah "${storage[@]}" push -q --tls-verify=false "$1" "docker://$1" ;;
	esac
}
for name in "$own/fhir-introspection-sidecar:$version" "$own/charts/fhir-introspection-sidecar:$version"; do
	what=image
	[[ $name != */charts/* ]] || what=chart
	repository=http://$address/v2/${name#"$address"/}
	repository=${repository%:*}
	before=$(digest "$name")
	replace "$name"
	after=$(digest "$name")
	[[ $before != "$after" ]] || fail "$name wasn't replaced"
	ours() { lines "\$$what:"; }
	while read -r line; do refused "$line" "another $what under the tag"; done < <(ours)
	# With our signatures put beside it.
	curl -sf "$repository/manifests/sha256-$before" >"$work/index" || fail "$name has no signatures"
	jq -r '.manifests[].digest' "$work/index" >"$work/digests"
	while read -r signature; do
		curl -sf "$repository/manifests/$signature" | jq -c --arg d "sha256:$after" '.subject.digest = $d' >"$work/moved"
		moved=sha256:$(sha256sum "$work/moved" | cut -d' ' -f1)
		curl -sf -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary "@$work/moved" "$repository/manifests/$moved" || fail "registry"
		jq -c --arg old "$signature" --arg new "$moved" --argjson size "$(stat -c %s "$work/moved")" \
			'(.manifests[] | select(.digest == $old)) |= (.digest = $new | .size = $size)' "$work/index" >"$work/index.new"
		mv "$work/index.new" "$work/index"
	done <"$work/digests"
	curl -sf -X PUT -H 'Content-Type: application/vnd.oci.image.index.v1+json' --data-binary "@$work/index" "$repository/manifests/sha256-$after" || fail "registry"
	while read -r line; do refused "$line" "another $what with our signatures" 'does not match any digest'; done < <(ours)
	# Signed, by somebody else.
	"$work/path/cosign" sign --yes "${name%:*}@sha256:$after" >"$work/said" 2>&1 || fail "$(cat "$work/said")"
	"$work/path/cosign" attest --yes --type=slsaprovenance1 --predicate=<(echo '{"buildDefinition": {}, "runDetails": {}}') \
		"${name%:*}@sha256:$after" >"$work/said" 2>&1 || fail "$(cat "$work/said")"
	while read -r line; do refused "$line" "another workflow's $what" "$stranger"; done < <(ours)
done
refused "$(cat "$work/install")" "a chart that was replaced"
ok "another image or chart is refused, with our signatures or somebody else's beside it"
