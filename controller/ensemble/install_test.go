package ensemble

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstall runs the installation in images that have nothing but the programs given here, each of which says with what
// it was called.
func TestInstall(t *testing.T) { //nolint:paralleltest // See below.
	const (
		said = "echo \"$(basename $0) $*\"\n"
		// As of Python 3.11 and a distribution that keeps pip from what is theirs.
		managed = said + "[ \"$1\" = -c ] || [ -n \"${PIP_BREAK_SYSTEM_PACKAGES-}\" ] || { echo externally-managed-environment >&2; exit 1; }\n"
		// A package of the distribution is too old, and cannot be replaced.
		old = said + "[ \"$1\" != -c ] && case \"$*\" in *--ignore-installed*) ;; *) exit 1; esac\n"
		// apt-get that brings a Python.
		brings = said + "[ $1 = update ] || ln -s python3.12 \"$(dirname $0)/python3\"\n"
		no     = said + "exit 1\n"
		pip    = "python3 -m pip install "
		clone  = "git clone --depth 1 --branch a/b " + repository + " /tmp/ensemble-python\n"
		apt    = "apt-get update\napt-get install -y --no-install-recommends python3-pip python3-cffi"
	)
	for name, row := range map[string]struct {
		branch   string
		programs map[string]string
		want     string
		// reason is what is told of a container that ends, empty for one that goes on.
		reason string
	}{
		"an image without Python": {
			"", map[string]string{"apt-get": brings, "python3.12": managed}, apt + "\n" + pip + "ensemble-python\n", "",
		},
		"an image that has all of it": {"", map[string]string{"apt-get": no, "ensemble": said, "python3": said}, "", ""},
		"an image without cffi": {
			"", map[string]string{"apt-get": said, "ensemble": said, "python3": "[ \"$1\" != -c ]\n"}, apt + "\n", "",
		},
		"with Python, and no repositories": {
			"", map[string]string{"apt-get": no, "python3": managed}, "apt-get update\n" + pip + "ensemble-python\n", "",
		},
		"with yum": {
			"", map[string]string{"yum": said, "python3": said}, "yum install -y python3-pip python3-cffi\n" + pip + "ensemble-python\n", "",
		},
		"with packages that are too old": {
			"", map[string]string{"python3": old}, pip + "ensemble-python\n" + pip + "--ignore-installed ensemble-python\n", "",
		},
		"a branch": {"a/b", map[string]string{"apt-get": said, "git": said, "ensemble": said, "python3": managed},
			apt + " git\n" + clone + pip + "/tmp/ensemble-python\n", ""},
		"a branch that is not there": {"a/b", map[string]string{"git": no, "ensemble": said, "python3": managed},
			clone, "could not install ensemble-python"},
		"without anything": {"", nil, "", "could not install ensemble-python"},
	} {
		// One after the other: a program forked while another test writes one holds it open until it is executed, and the kernel runs no
		// file that is open for writing (ETXTBSY).
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // See above.
			image := t.TempDir()
			for program, text := range row.programs {
				if err := os.WriteFile(filepath.Join(image, program), []byte("#!/bin/sh\n"+text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for _, program := range []string{"basename", "dirname", "ln"} {
				path, err := exec.LookPath(program)
				if err == nil {
					err = os.Symlink(path, filepath.Join(image, program))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			var out, told strings.Builder
			shell := exec.CommandContext(t.Context(), "/bin/sh", "-eu", "-c", install(row.branch)+"echo goes on")
			shell.Env, shell.Stdout, shell.Stderr = []string{"PATH=" + image}, &out, &told
			err := shell.Run()
			want := row.want
			if row.reason == "" {
				want += "goes on\n"
			}
			if out.String() != want || (err == nil) != (row.reason == "") || !strings.Contains(told.String(), row.reason) {
				t.Errorf("%v\ngot  %q\nwant %q\ntold %q, which is to have %q", err, out.String(), want, told.String(), row.reason)
			}
		})
	}
}
