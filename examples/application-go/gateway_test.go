package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-gateway/pkg/client"
	"github.com/hyperledger/fabric-gateway/pkg/hash"
	"github.com/hyperledger/fabric-protos-go-apiv2/gateway"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// connected opens the network that SELVAGE_NETWORK names.
func connected(t *testing.T) (*Network, *client.Network, *client.Contract) {
	t.Helper()
	file := os.Getenv("SELVAGE_NETWORK")
	if file == "" {
		t.Fatal("SELVAGE_NETWORK must name the output of: selvage up --detach --json")
	}
	network, err := ReadNetwork(file)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := Open(network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	channel := connection.Gateway.GetNetwork(network.Channel)
	return network, channel, channel.GetContract(network.Chaincode)
}

func create(t *testing.T, contract *client.Contract) string {
	t.Helper()
	id := NewID()
	if _, err := contract.SubmitTransaction("CreateAsset", id, "blue", "5", "Tom", "100"); err != nil {
		t.Fatal(err)
	}
	return id
}

// details returns what every peer said about the failure.
func details(err error) string {
	var said []string
	for _, detail := range status.Convert(err).Details() {
		if d, ok := detail.(*gateway.ErrorDetail); ok {
			said = append(said, d.GetMspId()+" "+d.GetAddress()+": "+d.GetMessage())
		}
	}
	return strings.Join(said, "\n")
}

func TestSubmitThenEvaluate(t *testing.T) {
	_, _, contract := connected(t)
	id := create(t, contract)
	value, err := contract.EvaluateTransaction("ReadAsset", id)
	if err != nil {
		t.Fatal(err)
	}
	var asset struct{ ID, Owner string }
	if err := json.Unmarshal(value, &asset); err != nil {
		t.Fatal(err)
	}
	if asset.ID != id || asset.Owner != "Tom" {
		t.Fatalf("read %s", value)
	}
}

func TestLargeValue(t *testing.T) {
	_, channel, contract := connected(t)
	key, value := NewID(), strings.Repeat(NewID()[:8], 1<<20)
	_, commit, err := contract.SubmitAsync("Put", client.WithArguments(key, value))
	if err != nil {
		t.Fatal(err)
	}
	outcome, err := commit.Status()
	if err != nil || !outcome.Successful {
		t.Fatalf("%+v, %v", outcome, err)
	}
	read, err := contract.EvaluateTransaction("Get", key)
	if err != nil || string(read) != value {
		t.Fatalf("%d bytes came back, %v", len(read), err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	blocks, err := channel.BlockEvents(ctx, client.WithStartBlock(outcome.BlockNumber))
	if err != nil {
		t.Fatal(err)
	}
	block, ok := <-blocks
	if !ok {
		t.Fatal("the block did not come")
	}
	for _, transaction := range block.GetData().GetData() {
		if bytes.Contains(transaction, []byte(value)) {
			return
		}
	}
	t.Fatalf("the value is not in block %d", outcome.BlockNumber)
}

func TestCommitStatus(t *testing.T) {
	_, _, contract := connected(t)
	_, commit, err := contract.SubmitAsync("CreateAsset", client.WithArguments(NewID(), "red", "1", "Tom", "1"))
	if err != nil {
		t.Fatal(err)
	}
	outcome, err := commit.Status()
	if err != nil {
		t.Fatal(err)
	}
	if !outcome.Successful || outcome.Code != peer.TxValidationCode_VALID || outcome.BlockNumber == 0 {
		t.Fatalf("status %+v", outcome)
	}
}

// notEndorsed is how the Go client prints an endorsement that the first peer refused.
const notEndorsed = "endorse error: rpc error: code = Aborted desc = failed to endorse transaction, " +
	"see attached details for more info\nDetails:\n  - Address: "

func TestContractErrorOnSubmit(t *testing.T) {
	network, _, contract := connected(t)
	_, err := contract.SubmitTransaction("TransferAsset", "missing", "Ann")
	var refused *client.EndorseError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	if code := status.Code(err); code != codes.Aborted {
		t.Fatalf("code %v", code)
	}
	if !strings.HasPrefix(err.Error(), notEndorsed) {
		t.Fatalf("text %q", err)
	}
	said := details(err)
	reason := ": chaincode response 500, the asset missing does not exist"
	if !strings.HasPrefix(said, network.Gateway.MspID+" ") || !strings.HasSuffix(said, reason) {
		t.Fatalf("details %q", said)
	}
}

func TestContractErrorOnEvaluate(t *testing.T) {
	_, _, contract := connected(t)
	_, err := contract.EvaluateTransaction("ReadAsset", "missing")
	if code := status.Code(err); code != codes.Unknown {
		t.Fatalf("code %v of %v", code, err)
	}
	const reason = "chaincode response 500, the asset missing does not exist"
	if text := status.Convert(err).Message(); text != "evaluate call to endorser returned error: "+reason {
		t.Fatalf("text %q", text)
	}
	if said := details(err); !strings.HasSuffix(said, ": "+reason) {
		t.Fatalf("details %q", said)
	}
}

// refused expects an error with this code and exactly this text, whatever the client puts before it, and
// whichever details behind it.
func refused(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	said, _, _ := strings.Cut(err.Error(), "\n")
	if status.Code(err) != code || !strings.HasSuffix(said, " desc = "+text) {
		t.Fatalf("got %v", err)
	}
}

func TestUnknownNames(t *testing.T) {
	network, channel, contract := connected(t)
	missing := channel.GetContract("nosuchchaincode")
	where := "chaincode nosuchchaincode in channel " + network.Channel
	_, err := missing.SubmitTransaction("Anything")
	refused(t, err, codes.FailedPrecondition, "no combination of peers can be derived which satisfy the "+
		"endorsement policy: No metadata was found for "+where)
	_, err = missing.EvaluateTransaction("Anything")
	refused(t, err, codes.FailedPrecondition, "no peers available to evaluate "+where)
	_, err = contract.Submit("TransferAsset", client.WithArguments("x", "Ann"),
		client.WithEndorsingOrganizations("NoSuchMSP"))
	refused(t, err, codes.Unavailable, "failed to find any endorsing peers for org(s): NoSuchMSP")
}

// notCommitted expects a transaction that was ordered and found invalid.
func notCommitted(t *testing.T, err error, code peer.TxValidationCode) {
	t.Helper()
	var invalid *client.CommitError
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v", err)
	}
	said := fmt.Sprintf("transaction %s failed to commit with status code %d (%s)", invalid.TransactionID, code, code)
	if invalid.Code != code || len(invalid.TransactionID) != 64 || err.Error() != said {
		t.Fatalf("got %q with code %v", err, invalid.Code)
	}
}

func owner(t *testing.T, contract *client.Contract, id string) string {
	t.Helper()
	value, err := contract.EvaluateTransaction("ReadAsset", id)
	if err != nil {
		t.Fatal(err)
	}
	var asset struct{ Owner string }
	if err := json.Unmarshal(value, &asset); err != nil {
		t.Fatal(err)
	}
	return asset.Owner
}

func TestTooFewEndorsements(t *testing.T) {
	network, _, contract := connected(t)
	id := NewID()
	_, err := contract.Submit("CreateAsset", client.WithArguments(id, "blue", "5", "Tom", "100"),
		client.WithEndorsingOrganizations(network.Gateway.MspID))
	notCommitted(t, err, peer.TxValidationCode_ENDORSEMENT_POLICY_FAILURE)
	exists, err := contract.EvaluateTransaction("AssetExists", id)
	if err != nil || string(exists) != "false" {
		t.Fatalf("exists %s, %v", exists, err)
	}
}

func TestConflictingTransactions(t *testing.T) {
	_, _, contract := connected(t)
	id := create(t, contract)
	owners := []string{"Ann", "Bob"}
	var commits []*client.Commit
	var endorsed []*client.Transaction
	for _, owner := range owners {
		proposal, err := contract.NewProposal("TransferAsset", client.WithArguments(id, owner))
		if err != nil {
			t.Fatal(err)
		}
		transaction, err := proposal.Endorse()
		if err != nil {
			t.Fatal(err)
		}
		endorsed = append(endorsed, transaction)
	}
	for _, transaction := range endorsed {
		commit, err := transaction.Submit()
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, commit)
	}
	codesSeen := map[peer.TxValidationCode]int{}
	winner := ""
	for i, commit := range commits {
		outcome, err := commit.Status()
		if err != nil {
			t.Fatal(err)
		}
		codesSeen[outcome.Code]++
		if outcome.Successful {
			winner = owners[i]
		}
	}
	if codesSeen[peer.TxValidationCode_VALID] != 1 || codesSeen[peer.TxValidationCode_MVCC_READ_CONFLICT] != 1 {
		t.Fatalf("codes %v", codesSeen)
	}
	if now := owner(t, contract, id); now != winner {
		t.Fatalf("%s has it, not %s", now, winner)
	}
}

// A second session of the user transfers the asset, and lets another transfer pass between its
// endorsement and its submission.
func TestConflictOnSubmit(t *testing.T) {
	network, _, contract := connected(t)
	id := create(t, contract)
	user, sign, err := identityOf(network)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := Open(network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(connection.Close)
	signatures := 0
	gateway, err := client.Connect(user, client.WithHash(hash.SHA256), client.WithClientConnection(connection.grpc),
		client.WithSign(func(digest []byte) ([]byte, error) {
			signatures++
			// The first one is for the proposal, the second one for the endorsed transaction.
			if signatures == 2 {
				if _, err := contract.SubmitTransaction("TransferAsset", id, "Bob"); err != nil {
					return nil, err
				}
			}
			return sign(digest)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gateway.Close() })
	late := gateway.GetNetwork(network.Channel).GetContract(network.Chaincode)
	_, err = late.SubmitTransaction("TransferAsset", id, "Ann")
	notCommitted(t, err, peer.TxValidationCode_MVCC_READ_CONFLICT)
	if now := owner(t, contract, id); now != "Bob" {
		t.Fatalf("%s has it", now)
	}
}

func TestEventsWithCheckpoint(t *testing.T) {
	network, channel, contract := connected(t)
	_, commit, err := contract.SubmitAsync("CreateAsset", client.WithArguments(NewID(), "red", "1", "Tom", "1"))
	if err != nil {
		t.Fatal(err)
	}
	first, err := commit.Status()
	if err != nil {
		t.Fatal(err)
	}
	wanted := []string{commit.TransactionID()}
	for range 2 {
		_, next, err := contract.SubmitAsync("CreateAsset", client.WithArguments(NewID(), "red", "1", "Tom", "1"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := next.Status(); err != nil {
			t.Fatal(err)
		}
		wanted = append(wanted, next.TransactionID())
	}
	checkpointer := new(client.InMemoryCheckpointer)
	for _, id := range wanted {
		// A new stream for every event: only the checkpoint carries the position.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		events, err := channel.ChaincodeEvents(ctx, network.Chaincode,
			client.WithStartBlock(first.BlockNumber), client.WithCheckpoint(checkpointer))
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		for event := range events {
			checkpointer.CheckpointChaincodeEvent(event)
			if event.TransactionID == id {
				break
			}
		}
		if ctx.Err() != nil {
			t.Fatal("the event did not come")
		}
		cancel()
	}
}
