package untilchanged

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"
)

// role is what this program does when it is started by a test.
const role = "UNTILCHANGED_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "fails":
		os.Exit(3)
	case "serves":
		terminated := make(chan os.Signal, 1)
		signal.Notify(terminated, syscall.SIGTERM)
		fmt.Println("started")
		<-terminated
		fmt.Println("ended as told")
	}
}

// output is what a program says, while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// run runs this program in a role, and returns what Run did when it has.
func run(ctx context.Context, t *testing.T, file, as string) (said *output, ended <-chan error) {
	t.Helper()
	said = &output{}
	done := make(chan error, 1)
	options := &Options{
		File: file, Period: 5 * time.Millisecond, Grace: 20 * time.Second, Stdout: said, Stderr: said, Log: logr.Discard(),
		Command: []string{"/usr/bin/env", role + "=" + as, os.Args[0]},
	}
	go func() { done <- Run(ctx, options) }()
	return said, done
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	seen := func(context.Context) (bool, error) { return is(), nil }
	if err := wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, time.Minute, true, seen); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func end(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
		return nil
	}
}

// mounted is a file as the kubelet mounts one of a Secret: a link to a directory that is a link, which alone is replaced.
func mounted(t *testing.T, content string) (file string, change func(string)) {
	t.Helper()
	directory := t.TempDir()
	version := 0
	change = func(content string) {
		version++
		name := fmt.Sprintf("..version%d", version)
		if err := os.Mkdir(filepath.Join(directory, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(directory, name, "tls.crt"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, filepath.Join(directory, "..new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(directory, "..new"), filepath.Join(directory, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	change(content)
	file = filepath.Join(directory, "tls.crt")
	if err := os.Symlink(filepath.Join("..data", "tls.crt"), file); err != nil {
		t.Fatal(err)
	}
	return file, change
}

// TestUntilChanged: the program is told to end when the file has other content, and not when it is written again as it was.
func TestUntilChanged(t *testing.T) {
	t.Parallel()
	file, change := mounted(t, "one")
	said, ended := run(t.Context(), t, file, "serves")
	until(t, "the program starts", func() bool { return strings.Contains(said.String(), "started") })
	change("one")
	select {
	case err := <-ended:
		t.Fatalf("it ended with %v, and nothing has changed", err)
	case <-time.After(100 * time.Millisecond):
	}
	change("two")
	if err := end(t, ended); err != nil || !strings.Contains(said.String(), "ended as told") {
		t.Errorf("it ended with %v and said %q", err, said)
	}
}

// TestEnds: what ends it ends the program, and what the program fails with is its own error.
func TestEnds(t *testing.T) {
	t.Parallel()
	file, _ := mounted(t, "one")
	ctx, cancel := context.WithCancel(t.Context())
	said, ended := run(ctx, t, file, "serves")
	until(t, "the program starts", func() bool { return strings.Contains(said.String(), "started") })
	cancel()
	if err := end(t, ended); err != nil || !strings.Contains(said.String(), "ended as told") {
		t.Errorf("told to end, it ended with %v and said %q", err, said)
	}
	_, ended = run(t.Context(), t, file, "fails")
	if err := end(t, ended); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("a program that failed: %v", err)
	}
	_, ended = run(t.Context(), t, file+".missing", "serves")
	if err := end(t, ended); err == nil || !strings.Contains(err.Error(), "read the file that is looked at") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestInstall: the copy runs. It is not run beside the tests that start programs: a program forked while the copy is
// written holds it open until it is executed, and the kernel runs no file that is open for writing (ETXTBSY).
//
//nolint:paralleltest // See above.
func TestInstall(t *testing.T) {
	to := filepath.Join(t.TempDir(), "provider")
	command := Install()
	command.SetArgs([]string{to})
	if err := command.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	copied := exec.CommandContext(t.Context(), to)
	copied.Env = append(os.Environ(), role+"=fails")
	if err := copied.Run(); err == nil || err.Error() != "exit status 3" {
		t.Errorf("the copy ended with %v", err)
	}
}
