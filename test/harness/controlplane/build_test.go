package controlplane

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBuildUsesReadyBinaries(t *testing.T) {
	ready := t.TempDir()
	t.Setenv(BinariesVariable, ready)

	_, err := Build(t.Context(), os.Stderr)
	if err == nil || !strings.Contains(err.Error(), BinariesVariable) || !strings.Contains(err.Error(), "kube-scheduler") {
		t.Errorf("Build with an empty directory: %v, want an error that names the variable and what is missing", err)
	}
	for _, program := range append(programs(), kubectl()) {
		if err := os.WriteFile(filepath.Join(ready, program.name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binaries, err := Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if binaries.path(Etcd) != filepath.Join(ready, "etcd") {
		t.Errorf("etcd is %s, want it from %s", binaries.path(Etcd), ready)
	}
	if _, err := os.Stat(binaries.path(guardBinary)); err != nil {
		t.Errorf("the guard: %v", err)
	}
}

func TestBuildSaysNothingWhenThereIsNothingToDo(t *testing.T) {
	first, err := Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	second, err := Build(t.Context(), &progress)
	if err != nil {
		t.Fatal(err)
	}
	if first != second || progress.Len() > 0 {
		t.Errorf("the second Build: %+v and %q, want %+v and no word", second, progress.String(), first)
	}
}

// builderIn is a builder of the real sources with a cache of its own.
func builderIn(t *testing.T, cache string, progress *bytes.Buffer) *builder {
	t.Helper()
	b, err := newBuilder(t.Context(), progress)
	if err != nil {
		t.Fatal(err)
	}
	b.cache = cache
	return b
}

func TestBuildersWaitForEachOther(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "same")
	var firstSaid, secondSaid bytes.Buffer
	first, second := builderIn(t, directory, &firstSaid), builderIn(t, directory, &secondSaid)

	err := first.locked(t.Context(), directory, func(*os.File) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := second.locked(ctx, directory, func(*os.File) error { return errors.New("both work at once") })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second builder: %v, want that it waits until its context ends", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	worked := false
	if err := second.locked(t.Context(), directory, func(*os.File) error { worked = true; return nil }); err != nil || !worked {
		t.Errorf("the second builder after the first: %v, it worked: %t", err, worked)
	}
	if !strings.Contains(secondSaid.String(), "waiting for another process") {
		t.Errorf("the second builder says %q, want that it waits", secondSaid.String())
	}
}

func TestALongBuildGivesSignsOfLife(t *testing.T) {
	b := builderIn(t, t.TempDir(), &bytes.Buffer{})
	b.heartbeat = time.Millisecond
	signs := make(chan struct{})
	failure := errors.New("the work failed")
	err := b.during(func() { signs <- struct{}{} }, func() error {
		for range 3 {
			<-signs
		}
		// The sign that may be on its way is not to wait for us.
		go func() {
			for range signs {
			}
		}()
		return failure
	})
	close(signs)
	if !errors.Is(err, failure) {
		t.Errorf("during returns %v, want the error of the work", err)
	}
}

func TestABuildThatFailsSaysWhy(t *testing.T) {
	var said bytes.Buffer
	b := builderIn(t, t.TempDir(), &said)
	binary := filepath.Join(b.cache, "etcd")
	lock, err := os.Create(filepath.Join(b.cache, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lock.Close(); err != nil {
			t.Error(err)
		}
	}()
	broken := program{
		name: "etcd", module: components, importPath: "go.etcd.io/etcd/server/v3/no/such/package", versionOf: "go.etcd.io/etcd/server/v3",
		usually: time.Second,
	}
	err = b.buildProgram(t.Context(), lock, broken, nil, binary)
	if err == nil || !strings.Contains(err.Error(), "build etcd v3.") || !strings.Contains(err.Error(), "no/such/package") {
		t.Errorf("the build of a package that does not exist: %v, want the program, its version and what go said", err)
	}
	if _, err := os.Stat(binary); !os.IsNotExist(err) {
		t.Errorf("a failed build left a binary (%v)", err)
	}
	if !strings.Contains(said.String(), "building etcd v3.") {
		t.Errorf("the progress is %q, want the start of the build", said.String())
	}
}

func TestRequiredVersion(t *testing.T) {
	const goMod = `module example.org/tools

require example.org/single v1.2.3 // indirect

require (
	example.org/other v0.1.0
	example.org/block/v3 v3.7.0-rc.1 // indirect
)

replace example.org/replaced => example.org/replaced v9.9.9
`
	for _, test := range []struct{ module, want string }{
		{"example.org/single", "v1.2.3"},
		{"example.org/block/v3", "v3.7.0-rc.1"},
	} {
		if got, err := requiredVersion([]byte(goMod), test.module); err != nil || got != test.want {
			t.Errorf("the version of %s: %q, %v, want %s", test.module, got, err, test.want)
		}
	}
	for _, module := range []string{"example.org/absent", "example.org/replaced", "example.org/sing"} {
		if got, err := requiredVersion([]byte(goMod), module); err == nil {
			t.Errorf("the version of %s, which is not required: %s", module, got)
		}
	}
}
