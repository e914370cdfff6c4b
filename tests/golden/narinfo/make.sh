#!/bin/sh
# Makes the files beside it with a real Nix. As root: `unshare -m ./make.sh`; the machine's own /nix is never seen.
# Every run makes a new key and so new signatures; everything else stays the same.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

if [ "${1-}" != inside ]; then
    root=$(mktemp -d)
    trap 'umount -lR "$root"; rmdir "$root"' EXIT
    mount -t tmpfs tmpfs "$root"
    for entry in bin dev etc lib lib64 proc sbin usr; do
        if [ -L "/$entry" ]; then cp -P "/$entry" "$root/$entry"
        elif [ -d "/$entry" ]; then mkdir "$root/$entry" && mount --rbind "/$entry" "$root/$entry"; fi
    done
    mkdir "$root/nix" "$root/out" "$root/tmp" "$root/var"
    cp "$0" "$root/make.sh"
    HOME=/tmp chroot "$root" sh /make.sh inside
    cp "$root"/out/* "$here"
    exit
fi

export NIX_CONFIG='experimental-features = nix-command
build-users-group =
sandbox = false
substitute = false'
cd /tmp

# One path of each kind.
mkdir -p hello/bin
printf '#!/bin/sh\necho hello\n' >hello/bin/hello
chmod +x hello/bin/hello
ln -s bin/hello hello/link
source=$(nix store add-path ./hello --name source-1.0)
flat=$(nix store add-file ./hello/bin/hello --name flat-1.0)
text=$(nix-instantiate --eval --read-write-mode --expr 'builtins.toFile "text-1.0" "text\n"' | tr -d '"')
build() {  # name, script
    echo "derivation {
        name = \"$1\"; system = builtins.currentSystem; builder = \"/bin/sh\"; args = [\"-c\" \"$2\"];
        source = builtins.storePath \"$source\"; flat = builtins.storePath \"$flat\";
    }" >"$1.nix"
    nix-build --no-out-link "$1.nix"
}
built=$(build built-1.0 'echo \$source \$out > \$out')
content_addressed() {
    nix store make-content-addressed --json "$1" | sed "s|.*\"$1\":\"\([^\"]*\)\".*|\1|"
}
references=$(content_addressed "$(build references-1.0 'echo \$source \$flat > \$out')")
self=$(content_addressed "$built")

nix-store --generate-binary-cache-key test.example-1 /out/test.example-1.secret /out/test.example-1.public
for path in "$source" "$flat" "$text" "$built" "$references" "$self"; do
    nix copy --to "file:///tmp/lake?secret-key=/out/test.example-1.secret&compression=xz" "$path"
done
for kind in source flat text built references self; do
    eval path=\$$kind
    hash_part=$(basename "$path" | cut -c 1-32)
    cp "/tmp/lake/$hash_part.narinfo" "/out/$kind.narinfo"
done

# One text hashed by each algorithm, in each spelling.
printf 'narfs' >hashed
for algo in md5 sha1 sha256 sha512; do
    hex=$(nix-hash --flat --type $algo hashed)
    echo "$algo:$hex $algo:$(nix-hash --flat --base32 --type $algo hashed)" \
        "$algo:$(nix hash to-base64 --type $algo "$hex") $(nix hash to-sri --type $algo "$hex")"
done >/out/hashes.txt
nix --version >/out/nix-version.txt
