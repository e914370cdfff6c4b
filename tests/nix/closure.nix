# A closure of everything a NAR can hold, made with nothing but the machine's shell: no nixpkgs, no network.
let
  make = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-euc" script ];
    PATH = "/usr/bin:/bin";
  };
in rec {
  # 100 MB that every compressor is quick with (a second; brotli, which Nix runs at its highest level, 17), and some
  # that none can shrink.
  big = make "big" ''
    mkdir $out
    seq -f %0100000.0f 1000 > $out/lines
    head -c 1000000 /dev/urandom > $out/noise
  '';

  many = make "many" ''
    mkdir $out && cd $out
    for directory in $(seq 12); do
      mkdir "d$directory" && cd "d$directory"
      for file in $(seq 100); do
        echo "$directory $file" > "file-$file"
      done
      cd ..
    done
    chmod +x d1/file-1 d12/file-100
  '';

  odd = make "odd" ''
    mkdir $out && cd $out
    mkdir empty-directory sub "with space"
    : > empty-file
    : > empty-executable && chmod +x empty-executable
    echo latin1 > "$(printf 'caf\351')"
    echo newline > "$(printf 'two\nlines')"
    echo case > "README~nix~case~hack~1"
    echo order > a.b && echo order > a && mkdir a-b && echo del > "$(printf 'a\177')"
    echo long > "$(head -c 255 /dev/zero | tr '\0' n)"
    ln -s "$(head -c 4000 /dev/zero | tr '\0' t)" long-target
    ln -s nowhere dangling && ln -s ../sub sub/up && ln -s / root
    printf %4096s page > sub/page && printf %4097s page > sub/page-and-one && printf 1234567 > sub/seven
  '';

  file = make "file.txt" "echo a store path may be a file > $out";
  executable = make "executable" ''printf '#!/bin/sh\necho ran from ${file}\n' > $out && chmod +x $out'';
  symlink = make "symlink" "ln -s ${tool}/bin/tool $out";

  tool = make "tool" ''
    mkdir -p $out/bin $out/share
    printf '#!/bin/sh\n# %s\ncat ${file} ${many}/d1/file-1\n' $out > $out/bin/tool
    chmod +x $out/bin/tool
    ln -s ${odd} $out/share/odd
  '';

  all = make "all" ''
    mkdir $out
    ln -s ${big} $out/big && ln -s ${tool} $out/tool
    ln -s ${symlink} $out/symlink && ln -s ${executable} $out/executable
  '';

  # Built on a store that has only `all`, to prove that a builder can read it.
  on-top = make "on-top" ''
    ${symlink} > $out
    ${executable} >> $out
    cksum < ${big}/lines >> $out
  '';
}
