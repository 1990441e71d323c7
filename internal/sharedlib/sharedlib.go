// Package sharedlib looks at a shared library without loading it, because loading runs it: whether
// it is one, whether it is for this machine, and whether the libraries that it needs can be found.
package sharedlib

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// maxLibraries bounds how many libraries are looked at for one.
const maxLibraries = 200

// Place is where a library is loaded from.
type Place struct {
	File        string   // absolute
	Symbol      string   // that it has to export; "": none
	LibraryPath []string // directories of LD_LIBRARY_PATH
}

// machines maps the architectures of Go to those of ELF.
var machines = map[string]elf.Machine{
	"amd64": elf.EM_X86_64, "386": elf.EM_386, "arm64": elf.EM_AARCH64, "arm": elf.EM_ARM,
	"ppc64le": elf.EM_PPC64, "s390x": elf.EM_S390,
	"riscv64": elf.EM_RISCV, "loong64": elf.EM_LOONGARCH,
}

// Check returns an error if this program certainly cannot load the library. The list has the
// libraries that it needs, directly or not, and that are not where the dynamic loader usually
// looks. They are not an error, because a loader can be configured with more directories.
func Check(p Place) ([]string, error) {
	f, err := open(p.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = checkSymbol(f, p)
	if err != nil {
		return nil, err
	}
	s := &search{
		places: append(slices.Clone(p.LibraryPath), systemPlaces()...),
		seen:   map[string]bool{},
	}
	s.visit(f, p.File)
	return s.missing, nil
}

// open opens a shared library for this machine.
func open(path string) (*elf.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, plain(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := elf.Open(path)
	var format *elf.FormatError
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%s is not a shared library (ELF), or only a part of one", path)
	}
	if errors.As(err, &format) {
		return nil, fmt.Errorf("%s is not a shared library (ELF)", path)
	}
	if err != nil {
		return nil, plain(path, err)
	}
	want, known := machines[runtime.GOARCH]
	switch {
	case known && f.Machine != want:
		err = fmt.Errorf(
			"%s is for another architecture (%s), and this program for %s",
			path,
			f.Machine,
			want,
		)
	case known && f.Class != classOf(runtime.GOARCH):
		err = fmt.Errorf("%s is %s, and this program %s", path, f.Class, classOf(runtime.GOARCH))
	case f.Type != elf.ET_DYN:
		err = fmt.Errorf("%s is not a shared library (its type is %s)", path, f.Type)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

func classOf(architecture string) elf.Class {
	if architecture == "386" || architecture == "arm" {
		return elf.ELFCLASS32
	}
	return elf.ELFCLASS64
}

// plain says in plain words why a file cannot be looked at.
func plain(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s cannot be read by user id %d", path, os.Geteuid())
	}
	return err
}

// checkSymbol returns an error if the library does not export the symbol. It accepts a library
// whose symbols cannot be listed.
func checkSymbol(f *elf.File, p Place) error {
	symbols, err := f.DynamicSymbols()
	if err != nil || p.Symbol == "" {
		return nil
	}
	for _, symbol := range symbols {
		if symbol.Name == p.Symbol && symbol.Section != elf.SHN_UNDEF {
			return nil
		}
	}
	return fmt.Errorf("%s is a library without %s", p.File, p.Symbol)
}

// search looks for the libraries that libraries need.
type search struct {
	places  []string
	seen    map[string]bool
	missing []string
}

func (s *search) visit(f *elf.File, file string) {
	needed, err := f.ImportedLibraries()
	if err != nil {
		return // unknown
	}
	places := append(ownPlaces(f, file), s.places...)
	for _, name := range needed {
		if s.seen[name] || len(s.seen) >= maxLibraries {
			continue
		}
		s.seen[name] = true
		found, path := find(name, places)
		if found == nil {
			s.missing = append(
				s.missing,
				fmt.Sprintf("%s, which %s needs", name, filepath.Base(file)),
			)
			continue
		}
		s.visit(found, path)
		_ = found.Close() // nothing was written
	}
}

// find opens the first library of that name that is for this machine; nil if there is none.
func find(name string, places []string) (*elf.File, string) {
	if strings.Contains(name, "/") {
		f, err := open(name)
		if err != nil {
			return nil, ""
		}
		return f, name
	}
	for _, place := range places {
		path := filepath.Join(place, name)
		f, err := open(path)
		if err == nil {
			return f, path
		}
	}
	return nil, ""
}

// ownPlaces returns the directories that a library itself names.
func ownPlaces(f *elf.File, file string) []string {
	var places []string
	origin := filepath.Dir(file)
	if real, err := filepath.EvalSymlinks(file); err == nil {
		origin = filepath.Dir(real)
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		lists, err := f.DynString(tag)
		if err != nil {
			continue
		}
		for _, list := range lists {
			for place := range strings.SplitSeq(list, ":") {
				place = strings.NewReplacer("${ORIGIN}", origin, "$ORIGIN", origin).Replace(place)
				for _, lib := range []string{"lib", "lib64"} {
					places = append(
						places,
						strings.NewReplacer("${LIB}", lib, "$LIB", lib).Replace(place),
					)
				}
			}
		}
	}
	return places
}
