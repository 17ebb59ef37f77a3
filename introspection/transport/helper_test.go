package transport

import (
	"encoding/pem"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection/introspectiontest"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// canary is part of every secret of these tests and must appear nowhere else.
const canary = introspectiontest.Canary

// fixed is a File that stays as it is.
func fixed(content string) *File { return fileOf(introspectiontest.NewFile(content)) }

func fileOf(f *introspectiontest.File) *File { return &File{Read: f.Read} }

// unreadable is a File that can't be read.
func unreadable(err error) *File {
	f := introspectiontest.NewFile("")
	f.Fail(err)
	return fileOf(f)
}
