package pkcs11

// One loaded module in this process: loading, C_Initialize, and C_Finalize when
// the last token of it is closed.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"xks-proxy/pkg/hsm"
)

// module is shared by all tokens of one file: the same file loaded twice is one
// instance with one state.
type module struct {
	path     string
	gcm      gcmFunctions
	ctx      *p11.Ctx
	refs     int
	unknown  unknownAttributes
	finalize bool // we initialised it, and no call was ever abandoned in it
}

var modules = struct {
	sync.Mutex
	byPath map[string]*module
}{byPath: map[string]*module{}}

// acquireModule loads and initialises the module, or joins those who did.
func acquireModule(path string) (*module, error) {
	modules.Lock()
	defer modules.Unlock()
	m, ok := modules.byPath[path]
	if ok {
		m.refs++
		return m, nil
	}
	m, err := loadModule(path)
	if err != nil {
		return nil, err
	}
	err = m.ctx.Initialize()
	switch {
	case err == nil:
		m.finalize = true
	case code(err) == ckrAlreadyInitialized:
		// Somebody else in this process did, and will finalize it.
	default:
		e := unavailable("load module", "C_Initialize", err)
		e.Detail = path + " does not start: look at its own configuration (files and environment variables of the HSM's client) and its log"
		return nil, e
	}
	m.refs = 1
	modules.byPath[path] = m
	return m, nil
}

// release gives the module back. Only when nobody is left, and no call can be
// inside, is it finalized: C_Finalize under a running call crashes or blocks.
func (m *module) release(idle bool) {
	modules.Lock()
	defer modules.Unlock()
	m.refs--
	if !idle {
		m.finalize = false
	}
	if m.refs > 0 {
		return
	}
	if !m.finalize {
		return // the process's end will do it; whoever comes next joins this instance
	}
	delete(modules.byPath, m.path)
	_ = m.ctx.Finalize()
	m.ctx.Destroy()
}

// loadModule finds out what is wrong with the file before miekg's loader sees it:
// that one follows a missing function list into a crash.
func loadModule(path string) (*module, error) {
	unusable := func(format string, args ...any) error {
		return &hsm.Error{Op: "load module", Kind: hsm.ErrModule, Detail: path + " " + fmt.Sprintf(format, args...)}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, unusable("does not exist: install the HSM's client software or correct the path")
	case err != nil:
		return nil, unusable("cannot be read: %v", err)
	case info.IsDir():
		return nil, unusable("is a directory: name the PKCS#11 library in it (.so)")
	}
	loaded := loadLibrary(path)
	switch {
	case !loaded.loaded:
		return nil, unusable("cannot be loaded as a shared library: %s", strings.TrimPrefix(loaded.problem, path+": "))
	case !loaded.isPKCS11():
		return nil, unusable("is a shared library, but not a PKCS#11 module: it has no C_GetFunctionList")
	}
	ctx := p11.New(path)
	if ctx == nil {
		return nil, unusable("could not be loaded a second time")
	}
	functions, known := functionList(ctx)
	switch {
	case !known:
		return nil, unusable("cannot be used by this build: its version of miekg/pkcs11 hides the function list")
	case functions == nil:
		return nil, &hsm.Error{Op: "load module", Function: "C_GetFunctionList", Code: loaded.listError(),
			Kind: hsm.ErrModule, Detail: path}
	}
	major := majorVersion(functions)
	if major != 2 && major != 3 {
		return nil, unusable("speaks PKCS#11 version %d: 2.x or 3.x is needed", major)
	}
	return &module{path: path, gcm: functions, ctx: ctx}, nil
}
