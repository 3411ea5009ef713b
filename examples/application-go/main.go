// Command asset-application is a first application on Fabric's Gateway client for Go: it creates an
// asset, hands it over, reads it back and watches the events.
//
// It takes the file with the output of `selvage up --detach --json`.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("name the file with the output of: selvage up --detach --json")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(file string) error {
	network, err := ReadNetwork(file)
	if err != nil {
		return err
	}
	connection, err := Open(network)
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	channel := connection.Gateway.GetNetwork(network.Channel)
	contract := channel.GetContract(network.Chaincode)
	events, err := channel.ChaincodeEvents(ctx, network.Chaincode)
	if err != nil {
		return err
	}

	id := NewID()
	fmt.Println("Create", id)
	if _, err := contract.SubmitTransaction("CreateAsset", id, "yellow", "5", "Tom", "1300"); err != nil {
		return err
	}
	fmt.Println("Hand it over")
	before, err := contract.SubmitTransaction("TransferAsset", id, "Saptha")
	if err != nil {
		return err
	}
	fmt.Println("  it belonged to", string(before))
	asset, err := contract.EvaluateTransaction("ReadAsset", id)
	if err != nil {
		return err
	}
	fmt.Println("Read it back:", string(asset))
	for range 2 {
		select {
		case event := <-events:
			fmt.Println("Event", event.EventName, "in block", event.BlockNumber)
		case <-ctx.Done():
			return fmt.Errorf("the events did not come: %w", ctx.Err())
		}
	}
	return nil
}

// NewID returns a name that no other asset has.
func NewID() string {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		log.Fatalf("the machine has no randomness: %v", err)
	}
	return "asset-" + hex.EncodeToString(random[:])
}
