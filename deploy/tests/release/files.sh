# The files of a release. Sourced by run.sh.

cd "$work/source/dist"
for platform in linux_amd64 linux_arm64 darwin_arm64; do
	archive=$(ls ./*_"$platform".tar.gz)
	for file in fhir-introspection-sidecar LICENSE README.md CHANGELOG.md docs/configuration.md; do
		tar -tzf "$archive" "$file" >/dev/null 2>&1 || fail "$archive has no $file"
	done
	jq -e '.spdxVersion | startswith("SPDX-")' "$archive.spdx.json" >/dev/null || fail "$archive has no SBOM"
	for file in "$archive" "$archive.spdx.json"; do
		grep -qF " $(basename "$file")" checksums.txt || fail "$file has no checksum"
	done
done
ok "archives with everything in them, and their SBOMs, for every platform"
for package in ./*.deb ./*.rpm; do
	grep -qF "$(basename "$package")" checksums.txt || fail "$package has no checksum"
done

# As apt does it, but below a folder.
deb=$(ls ./*_"$(go env GOARCH)".deb)
mkdir -p "$work/machine/var/lib/dpkg"/{info,updates}
touch "$work/machine/var/lib/dpkg/status"
package() { dpkg --root="$work/machine" --force-script-chrootless --log=/dev/null "$@" >"$work/log" 2>&1 || fail "dpkg $1: $(cat "$work/log")"; }
package --install "$deb"
[[ $("$work/machine/usr/bin/fhir-introspection-sidecar" version) == *"$(git rev-parse --short=12 HEAD)"* ]] || fail "the package has another binary"
[[ $(stat -c %a "$work/machine/etc/fhir-introspection-sidecar/secrets") == 700 ]] || fail "others can read the secrets"
cmp "$work/machine/usr/lib/systemd/system/fhir-introspection-sidecar.service" "$work/source/deploy/systemd/fhir-introspection-sidecar.service"
# What it brings as settings is what the binary takes.
known=$("$work/machine/usr/bin/fhir-introspection-sidecar" config)
sed -n 's/^\(SIDECAR_[A-Z_]*\)=.*/\1/p' "$work/machine/etc/fhir-introspection-sidecar/environment" | while read -r variable; do
	grep -qF "\`$variable\`" <<<"$known" || fail "the settings name $variable"
done
echo changed >>"$work/machine/etc/fhir-introspection-sidecar/environment"
package --remove fhir-introspection-sidecar
[[ ! -e $work/machine/usr/bin/fhir-introspection-sidecar && -e $work/machine/etc/fhir-introspection-sidecar/environment ]] ||
	fail "what is removed isn't the program, or it is the settings too"
ok "the deb installs and leaves; its settings stay"
# And where systemd is the first process: it runs, too.
"$root/deploy/tests/systemd/run.sh" "$deb" || fail "the deb on a machine with systemd"
passed=$((passed + 9))

# As dnf does it: a machine with nothing but rpm's own database.
rpm=$(ls ./*."$(uname -m)".rpm)
rpm -qcp "$rpm" 2>/dev/null | grep -qxF /etc/fhir-introspection-sidecar/environment || fail "$rpm would overwrite the settings"
red=$work/red
mkdir -p "$red"
rpms() { rpm --root="$red" --dbpath=/var/lib/rpm "$@" >"$work/log" 2>&1 || fail "rpm $1: $(cat "$work/log")"; }
rpms --initdb
rpms -i --nodeps --noscripts "$PWD/$rpm"
[[ $("$red/usr/bin/fhir-introspection-sidecar" version) == *"$(git rev-parse --short=12 HEAD)"* ]] || fail "the rpm has another binary"
[[ $(stat -c %a "$red/etc/fhir-introspection-sidecar/secrets") == 700 ]] || fail "others can read the secrets"
cmp "$red/usr/lib/systemd/system/fhir-introspection-sidecar.service" "$work/source/deploy/systemd/fhir-introspection-sidecar.service"
echo changed >>"$red/etc/fhir-introspection-sidecar/environment"
rpms -e --noscripts fhir-introspection-sidecar
[[ ! -e $red/usr/bin/fhir-introspection-sidecar && -e $red/etc/fhir-introspection-sidecar/environment.rpmsave ]] ||
	fail "what rpm removes isn't the program, or it is the settings too"
ok "so does the rpm"

commit=$(git rev-parse --short=12 HEAD)
binary=$(ls ./fhir-introspection-sidecar_linux_"$(go env GOARCH)"_*/fhir-introspection-sidecar)
printed=$("$binary" version)
[[ $printed == *"$version"* && $printed == *"$commit"* ]] || fail "version prints $printed"
ok "the binary knows its version and commit"
# As make build makes it, so that a release can be checked by whoever builds it.
make -s -C "$work/source" build BIN="$work/own" VERSION="$version" COMMIT="$commit"
cmp "$work/own" "$binary" || fail "make build gives another binary"
ok "make build gives the same binary, byte for byte"

# The images: the archives' binaries, the distribution's roots, nothing else.
for arch in amd64 arm64; do
	rm -rf "$work/image" "$work/files"
	mkdir "$work/files"
	skopeo copy -q --src-tls-verify=false --override-arch $arch "docker://$own/fhir-introspection-sidecar:$version" "dir:$work/image"
	jq -r '.layers[].digest' "$work/image/manifest.json" | sed 's/^sha256://' | while read -r layer; do
		tar -xf "$work/image/$layer" -C "$work/files" --no-same-owner
	done
	[[ $(cd "$work/files" && find . -type f -printf '%m %P\n' | sort -k 2) == '644 etc/ssl/certs/ca-certificates.crt
755 fhir-introspection-sidecar' ]] || fail "$arch has other files: $(cd "$work/files" && find . -type f -printf '%m %P\n')"
	cmp "$work/files/fhir-introspection-sidecar" ./fhir-introspection-sidecar_linux_${arch}_*/fhir-introspection-sidecar ||
		fail "the image for $arch has another binary"
	skopeo inspect --config --tls-verify=false --override-arch $arch "docker://$own/fhir-introspection-sidecar:$version" >"$work/config"
	[[ $(jq -r '.architecture, .config.User, .config.Labels["org.opencontainers.image.version"], .config.Labels["org.opencontainers.image.revision"]' \
		"$work/config" | xargs) == "$arch 65532:65532 $version $commit" ]] || fail "the image for $arch says $(cat "$work/config")"
	openssl crl2pkcs7 -nocrl -certfile "$work/files/etc/ssl/certs/ca-certificates.crt" | openssl pkcs7 -print_certs -noout | grep -c '^subject' >"$work/roots"
	(($(cat "$work/roots") > 100)) || fail "the image for $arch has $(cat "$work/roots") roots"
done
[[ $(skopeo list-tags --tls-verify=false "docker://$own/fhir-introspection-sidecar" | jq -r '.Tags[]' | grep -v '^sha256-' | sort | xargs) == "${version%.*} $version" ]] ||
	fail "tags of the image"
ok "the images for both platforms hold the archives' binaries and the roots, nothing else"
