package main

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
)

// loadChart reads the chart as Helm does: links are followed, and what .helmignore names is left out.
func (r *release) loadChart() (*chart.Chart, error) {
	return loader.LoadDir(filepath.Join(r.root, "manifests", "chart"))
}

// versions are the lines of Chart.yaml that a release writes.
var versions = map[*regexp.Regexp]string{
	regexp.MustCompile(`(?m)^version: .*$`):    "version: %[2]s",
	regexp.MustCompile(`(?m)^appVersion: .*$`): "appVersion: %[1]s",
}

// writeChart writes the archive of the chart. Helm's own has the time at which it is written.
func (r *release) writeChart(w io.Writer) (err error) {
	loaded, err := r.loadChart()
	if err != nil {
		return err
	}
	compressed := gzip.NewWriter(w)
	defer func() { err = errors.Join(err, compressed.Close()) }()
	files := newArchive(compressed, r.time)
	for _, file := range loaded.Raw {
		content := file.Data
		if file.Name == "Chart.yaml" {
			for line, format := range versions {
				if !line.Match(content) {
					return fmt.Errorf("the file Chart.yaml has no line %s", line)
				}
				content = line.ReplaceAll(content, fmt.Appendf(nil, format, r.version, r.version[1:]))
			}
		}
		if err := files.add(name+"/"+file.Name, 0o644, content); err != nil {
			return err
		}
	}
	return files.Close()
}
