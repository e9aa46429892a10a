package main

import (
	"archive/tar"
	"io"
	"time"
)

// archive is a tar in which nothing depends on who wrote it, when and where.
type archive struct {
	*tar.Writer
	time time.Time
}

func newArchive(w io.Writer, t time.Time) archive { return archive{tar.NewWriter(w), t} }

// add adds a file.
func (a archive) add(name string, mode int64, content []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: a.time, Format: tar.FormatUSTAR}
	if err := a.WriteHeader(header); err != nil {
		return err
	}
	_, err := a.Write(content)
	return err
}
