package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// firstGrowthWithin is how long it may take from a bare control plane to the first MiniCluster that has grown. A person types slower than
// this test.
const firstGrowthWithin = 10 * time.Minute

// typed are the lines that are to be typed, among others that say how far a build is.
var typed = regexp.MustCompile(`^(export|helm|kubectl) `)

// TestSandbox: from a bare control plane to the first MiniCluster that has grown, by the commands that the sandbox prints, in the shell
// of the person who types them. What was installed is found sound.
func TestSandbox(t *testing.T) {
	defer goleak.VerifyNone(t)
	tools := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", tools, "./cmd/kubectl-ensemble")
	build.Dir = filepath.Join("..", "..", "..")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	ctx, end := context.WithTimeout(t.Context(), firstGrowthWithin)
	defer end()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, writer, filepath.Join(t.ArtifactDir(), "logs"))
		ended <- err
		_ = writer.CloseWithError(io.EOF) // A pipe in memory closes.
	}()
	started := time.Now()
	p := &person{T: t, tools: tools}
	said := ""
	for lines := bufio.NewScanner(reader); lines.Scan(); {
		line := lines.Text()
		t.Log(line)
		if command, is := strings.CutPrefix(line, "  "); is && typed.MatchString(command) {
			p.typed = append(p.typed, command)
		}
		if strings.HasPrefix(line, "The programs start") {
			p.enter(ctx)
		}
		if strings.HasPrefix(line, "It runs until") {
			said = p.enter(ctx)
			t.Logf("the first MiniCluster has grown %s after the start", time.Since(started).Round(time.Second))
			end()
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, part := range []string{"0 errors", "ensemblemember/demo: the desired size is 6, it was 2", "all pods run", "hpc-a 6"} {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not in what was printed:\n%s", part, said)
		}
	}
}

// person types what is printed.
type person struct {
	*testing.T
	tools string
	// typed are the commands that were not run yet, exports those that hold for all that come.
	typed, exports []string
}

// enter runs what was typed, and returns what it printed.
func (p *person) enter(ctx context.Context) string {
	p.Helper()
	var printed strings.Builder
	for _, command := range p.typed {
		if strings.HasPrefix(command, "export ") {
			p.exports = append(p.exports, command)
			continue
		}
		shell := exec.CommandContext(ctx, "sh", "-c", strings.Join(append(p.exports, command), "\n"))
		shell.Dir = filepath.Join("..", "..", "..")
		shell.Env = append(os.Environ(), "PATH="+p.tools+string(os.PathListSeparator)+os.Getenv("PATH"), "HELM_CONFIG_HOME="+p.tools,
			"HELM_CACHE_HOME="+p.tools, "HELM_DATA_HOME="+p.tools)
		started := time.Now()
		said, err := shell.CombinedOutput()
		p.Logf("$ %s (%s)\n%s", command, time.Since(started).Round(100*time.Millisecond), said)
		if err != nil {
			p.Errorf("%s: %v", command, err)
		}
		printed.Write(said)
	}
	p.typed = nil
	return printed.String()
}
