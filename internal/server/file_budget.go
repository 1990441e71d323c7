package server

// The limit on open files, shared out between what takes files: connections of AWS KMS, those of
// the listeners beside, and all else.

import (
	"syscall"

	"go.uber.org/zap"

	"xks-proxy/internal/admin/socket"
)

// otherFiles is how many open files are kept for what is not a connection: the processes of the
// HSMs, logs, state, reloads.
const otherFiles = 256

// fileBudget is how many connections there may be at once.
type fileBudget struct {
	connections int // of the HTTPS ports together
	health      int
	admin       int
	metrics     int
}

// openFiles shares out what the system lets this process open. The connections of AWS KMS are
// server.max_connections, or fewer: strangers give way to new connections when that limit is
// reached, and not when the files are used up, which locks everybody out (U15).
func openFiles(configured int, log *zap.Logger) fileBudget {
	var files syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
	if err != nil {
		return fileBudget{
			configured,
			socket.HealthConnections,
			socket.Connections,
			socket.MetricsConnections,
		}
	}
	budget := shareFiles(configured, files.Cur)
	if budget.connections < configured {
		log.Warn("server.max_connections is more than the limit on open files allows; "+
			"raise LimitNOFILE of the unit, or ulimit -n",
			zap.Int("configured", configured), zap.Int("in_force", budget.connections),
			zap.Uint64("open_files", files.Cur))
	}
	return budget
}

// shareFiles keeps half of very few files, at most, for what is not a connection of AWS KMS.
func shareFiles(connections int, files uint64) fileBudget {
	const keptFiles = otherFiles + socket.HealthConnections + socket.Connections + socket.MetricsConnections
	kept := min(keptFiles, files/2)
	return fileBudget{
		connections: max(1, int(min(uint64(connections), files-kept))),
		health:      max(2, int(kept*socket.HealthConnections/keptFiles)),
		admin:       max(2, int(kept*socket.Connections/keptFiles)),
		metrics:     max(2, int(kept*socket.MetricsConnections/keptFiles)),
	}
}
