package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestKrew: the manifest has the version and the checksum of each archive, and nothing that cannot be installed is made in silence. The go
// command is one that writes an empty program.
func TestKrew(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		version string
		// tar is a tar command in place of that of the system.
		tar string
		// refused is a part of what is said then.
		refused string
	}{
		"a release":                {version: "v0.1.0"},
		"a commit":                 {version: "3bf5024", refused: "VERSION is '3bf5024'; Krew takes vMAJOR.MINOR.PATCH"},
		"a commit after a release": {version: "v0.1.0-3-g3bf5024", refused: "VERSION is 'v0.1.0-3-g3bf5024'"},
		"no v":                     {version: "0.1.0", refused: "VERSION is '0.1.0'"},
		"a tar that fails":         {version: "v0.1.0", tar: "echo no space left >&2; exit 2", refused: "no space left"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, programs := t.TempDir(), t.TempDir()
			for _, file := range []string{"Makefile", "LICENSE", "manifests/krew.yaml"} {
				content, err := os.ReadFile(filepath.Join("..", "..", file))
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(root, file), string(content), 0o600)
			}
			write(t, filepath.Join(programs, "go"), "#!/bin/sh\nwhile [ $# -gt 0 ]; do if [ \"$1\" = -o ]; then : >\"$2\"; fi; shift; done\n", 0o700)
			if row.tar != "" {
				write(t, filepath.Join(programs, "tar"), "#!/bin/sh\n"+row.tar+"\n", 0o700)
			}
			command := exec.CommandContext(t.Context(), "make", "krew", "VERSION="+row.version, "KREW_PLATFORMS=linux-amd64")
			command.Dir, command.Env = root, append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"), "MAKEFLAGS=")
			said, err := command.CombinedOutput()
			if row.refused != "" {
				if err == nil || !strings.Contains(string(said), row.refused) {
					t.Errorf("it ends with %v and says\n%s", err, said)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			archive, err := os.ReadFile(filepath.Join(root, "bin/krew/kubectl-ensemble-linux-amd64.tar.gz"))
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := os.ReadFile(filepath.Join(root, "bin/krew/ensemble.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			says(t, string(manifest), "version: "+row.version+"\n", "/releases/download/"+row.version+"/kubectl-ensemble-linux-amd64.tar.gz\n",
				fmt.Sprintf("sha256: %x\n", sha256.Sum256(archive)))
		})
	}
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
