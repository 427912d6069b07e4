// Command zip writes a directory as a zip archive, the same bytes for the same
// content: zip.go ARCHIVE DIR UNIXTIME. The files are below the directory's own name.
package main

import (
	"archive/zip"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: zip ARCHIVE DIR UNIXTIME")
	}
	seconds, err := strconv.ParseInt(os.Args[3], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	archive, err := os.Create(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	w := zip.NewWriter(archive)
	err = filepath.WalkDir(os.Args[2], func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return add(w, filepath.Dir(filepath.Clean(os.Args[2])), path, time.Unix(seconds, 0).UTC())
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		log.Fatal(err)
	}
}

// add copies the file at path into the archive, under its name in base.
func add(w *zip.Writer, base, path string, modified time.Time) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(base, path)
	if err != nil {
		return err
	}
	header := &zip.FileHeader{Name: filepath.ToSlash(name), Method: zip.Deflate, Modified: modified}
	header.SetMode(info.Mode())
	out, err := w.CreateHeader(header)
	if err != nil {
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(out, in)
	return err
}
