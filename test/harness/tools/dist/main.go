package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log" //nolint:depguard // It is what Helm writes to.
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/mod/semver"
)

// name is what everything is called.
const name = "ensemble-autoscaler"

// release is what is to be made.
type release struct {
	root      string // the repository
	output    string // the directory that the files go to
	version   string // with the v, as image, programs and chart (there without) have it
	revision  string // the commit, for the image
	time      time.Time
	platforms []v1.Platform
	progress  io.Writer
}

func main() {
	// Helm's loader tells of links that it follows.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	r := &release{progress: os.Stdout}
	flag.StringVar(&r.root, "root", "../../../..", "the repository")
	flag.StringVar(&r.output, "output", "", "the directory that the files are written to; what is there goes first")
	flag.StringVar(&r.revision, "revision", "unknown", "the commit")
	version := flag.String("version", "", "the version, for example v0.1.0; another one, such as a commit, becomes one before the chart's")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64", "the platforms of the image")
	flag.Parse()

	var err error
	if r.version, err = r.normalize(*version); err != nil {
		return err
	}
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH is %q; it has to be the time of the commit in seconds", os.Getenv("SOURCE_DATE_EPOCH"))
	}
	r.time = time.Unix(epoch, 0).UTC()
	for text := range strings.SplitSeq(*platforms, ",") {
		platform, err := v1.ParsePlatform(text)
		if err != nil || platform.OS == "" || platform.Architecture == "" {
			return fmt.Errorf("-platforms has %q; it has to be a system and an architecture, as in linux/amd64 (%w)", text, err)
		}
		r.platforms = append(r.platforms, *platform)
	}
	if r.output == "" {
		return errors.New("-output is empty; it has to be a directory")
	}
	return r.write(ctx)
}

// normalize makes of a version one that a chart may have. Versions that are none, such as commits, come before that of the chart.
func (r *release) normalize(version string) (string, error) {
	chart, err := r.loadChart()
	if err != nil {
		return "", err
	}
	if !semver.IsValid(version) {
		version = "v" + chart.Metadata.Version + "-dev.g" + version
	}
	if !semver.IsValid(version) || semver.Build(version) != "" || semver.Canonical(version) != version {
		return "", fmt.Errorf(
			"-version is %q; it has to be vMAJOR.MINOR.PATCH, as in v0.1.0, and what follows it may have no +, which names of images do not have",
			version,
		)
	}
	return version, nil
}

// write makes all files.
func (r *release) write(ctx context.Context) error {
	if err := r.clear(); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "dist")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work) //nolint:errcheck // It is in the directory for such.
	programs, err := r.build(ctx, work)
	if err != nil {
		return err
	}
	files := map[string]func(io.Writer) error{
		"install.yaml": func(w io.Writer) error { return r.writeManifests(w, work, "manifests", "1.36 or later") },
		"install-before-1.36.yaml": func(w io.Writer) error {
			return r.writeManifests(w, work, "manifests/overlays/pod-webhook", "before 1.36")
		},
		name + "-" + r.version[1:] + ".tgz":       r.writeChart,
		name + "-" + r.version + "-image.tar":     func(w io.Writer) error { return r.writeImage(w, work, programs) },
		name + "-" + r.version + "-sbom.cdx.json": func(w io.Writer) error { return r.writeSBOM(w, programs) },
	}
	for file, write := range files {
		if err := create(filepath.Join(r.output, file), write); err != nil {
			return fmt.Errorf("make %s: %w", file, err)
		}
	}
	return r.writeSums(files)
}

// clear makes the directory for the files, in place of one that it has made before.
func (r *release) clear() error {
	there, err := os.ReadDir(r.output)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(there) > 0 {
		if _, err := os.Stat(filepath.Join(r.output, sums)); err != nil {
			return fmt.Errorf("-output is %s, which has other files; it has to be empty, or what an earlier run has made, with %s", r.output, sums)
		}
	}
	return errors.Join(os.RemoveAll(r.output), os.MkdirAll(r.output, 0o755))
}

// create makes a file.
func create(path string, write func(io.Writer) error) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return write(file)
}
