package main

// The log: structured lines, one for each request, and where they go.

import (
	"fmt"
	"io"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const logTime = "2006-01-02T15:04:05.000000Z" // UTC

// openedLog is the log, what changes its level while it runs, and what ends it.
type openedLog struct {
	*zap.Logger
	level zap.AtomicLevel
	flush func()
}

// newLogger opens the log.
func newLogger(c logConfig) (*openedLog, error) {
	level, err := zap.ParseAtomicLevel(c.Level)
	if err != nil {
		return nil, err
	}
	out, err := openLog(c.Output)
	if err != nil {
		return nil, err
	}
	encoding := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", MessageKey: "msg", NameKey: "logger",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeTime:     encodeUTC,
		EncodeDuration: zapcore.StringDurationEncoder,
		EncodeName:     zapcore.FullNameEncoder,
	}
	encoder := zapcore.NewJSONEncoder(encoding)
	if c.Format == "console" {
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	queue := newLogQueue(out)
	return &openedLog{Logger: zap.New(zapcore.NewCore(encoder, queue, level)), level: level, flush: queue.flush}, nil
}

func encodeUTC(t time.Time, e zapcore.PrimitiveArrayEncoder) {
	e.AppendString(t.UTC().Format(logTime))
}

func openLog(output string) (io.Writer, error) {
	switch output {
	case "stderr":
		return os.Stderr, nil
	case "stdout":
		return os.Stdout, nil
	}
	file, err := os.OpenFile(output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("the log cannot be opened (log.output): %w", err)
	}
	return file, nil
}
