// Command loop is the plain hand-written loop that parkbridge is compared with:
// it reads a table by pages, pushes each row to the gate, and notes what became
// of it. It does the one thing that the benchmark asks for, as fast as simple
// code does it with the same drivers and net/http.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"
)

type options struct {
	driver, dsn, table                 string
	url, appID, secret, parkUUID, zone string
	concurrency, gather                int
	linger                             time.Duration
	status, file                       string
	after                              int64
}

func main() {
	var o options
	flag.StringVar(&o.driver, "driver", "postgres", "postgres, mysql or sqlite")
	flag.StringVar(&o.dsn, "dsn", "", "the database, in the driver's own form")
	flag.StringVar(&o.table, "table", "", "the table")
	flag.StringVar(&o.zone, "zone", "Asia/Shanghai", "of the table's times")
	flag.StringVar(&o.url, "url", "", "the gate")
	flag.StringVar(&o.appID, "app-id", "", "issued by the platform")
	flag.StringVar(&o.secret, "secret", "", "signs the calls")
	flag.StringVar(&o.parkUUID, "park-uuid", "", "the lot")
	flag.IntVar(&o.concurrency, "concurrency", 8, "calls at a time")
	flag.StringVar(&o.status, "status", statusDurable, "none; outcome: each answer is noted; durable: each row is noted before its push, too")
	flag.StringVar(&o.file, "file", "status.db", "the SQLite file of the statuses")
	flag.IntVar(&o.gather, "gather", 1000, "the most answers noted in one transaction")
	flag.DurationVar(&o.linger, "linger", 5*time.Millisecond, "how long answers gather")
	flag.Int64Var(&o.after, "after", 0, "begin above this id where nothing is noted yet")
	flag.Parse()
	run(context.Background(), o)
}

// must ends the program on an error: started again, it goes on from what is noted.
func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "loop:", err)
		os.Exit(1)
	}
}

// run carries every row above the last one noted. Its stages work side by side,
// each a page ahead of the next: reading, noting rows, pushing, noting answers.
func run(ctx context.Context, o options) {
	src := openSource(ctx, o)
	st := openStatus(ctx, o)
	unsent, after := st.resume(ctx)

	read, noted := make(chan []record), make(chan []record)
	go src.pages(ctx, after, read)
	go func() {
		noted <- unsent
		for page := range read {
			st.land(ctx, page)
			noted <- page
		}
		close(noted)
	}()
	work := make(chan record, o.concurrency)
	go func() {
		for page := range noted {
			for _, r := range page {
				work <- r
			}
		}
		close(work)
	}()
	answers, settled := make(chan answer, o.gather), make(chan bool)
	go func() {
		st.settleAll(ctx, answers)
		close(settled)
	}()

	var posters sync.WaitGroup
	transport := newTransport(o.concurrency)
	for range o.concurrency {
		posters.Go(func() {
			p := newPoster(o, transport)
			for r := range work {
				answers <- p.push(ctx, r)
			}
		})
	}
	posters.Wait()
	close(answers)
	<-settled
}
