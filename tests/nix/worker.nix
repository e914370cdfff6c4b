# What build workers build, eight of them at once: jobs that read a compiler and a library, 10 MB times `scale`, and have
# twice as much in their closure that they never read.
{ scale ? 1 }:
let
  make = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-euc" script ];
    PATH = "/usr/bin:/bin";
  };
  numbers = builtins.genList (n: n + 1) 8;
in rec {
  library = make "library" ''
    mkdir -p $out/lib
    head -c ${toString (2000000 * scale)} /dev/urandom > $out/lib/library
  '';

  compiler = make "compiler" ''
    mkdir -p $out/bin $out/share
    head -c ${toString (8000000 * scale)} /dev/urandom > $out/share/tables
    for file in $(seq 200); do echo "$file ${library}" > $out/share/header-$file; done
    cat > $out/bin/compile <<'END'
    #!/bin/sh -eu
    cat ${library}/lib/library "''${0%/bin/compile}"/share/* | cksum
    END
    chmod +x $out/bin/compile
  '';

  # Beside what is read, in the closure of every job.
  unread = make "unread" ''
    mkdir $out
    head -c ${toString (20000000 * scale)} /dev/urandom > $out/noise
  '';

  job = builtins.listToAttrs (map (n: {
    name = "n${toString n}";
    value = make "job-${toString n}" ''
      mkdir $out
      echo "${toString n} $(${compiler}/bin/compile)" > $out/sum
      ln -s ${library}/lib/library $out/library
      : never read: ${unread}
    '';
  }) numbers);

  # What a build sees of the machine, and that it can read its inputs.
  looking = make "looking" ''
    mkdir $out
    ls / > $out/root
    ls /nix/store > $out/store
    ${compiler}/bin/compile > $out/sum
  '';

  inputs = make "inputs" "echo ${compiler} ${library} ${unread} > $out";

  # A job that does not end by itself, once it has begun.
  endless = make "endless" ''
    cat ${library}/lib/library > $out
    exec sleep 600
  '';

  failing = make "failing" "cat ${library}/lib/library > $out; echo no such luck >&2; exit 1";
}
