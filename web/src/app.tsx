import { Route, Routes } from 'react-router';

import { Frame } from './parts/frame';
import { BlockPage } from './pages/block';
import { Explorer } from './pages/explorer';
import { Instances } from './pages/instances';
import { Missing } from './pages/missing';
import { Search } from './pages/search';
import { SignIn } from './pages/sign-in';
import { TransactionPage } from './pages/transaction';
import { SessionProvider } from './session';

/** Every state of the console is one of these addresses. */
export function App() {
    return (
        <SessionProvider door={(enter, hasExpired) => <SignIn enter={enter} hasExpired={hasExpired} />}>
            <Frame>
                <Routes>
                    <Route index element={<Instances />} />
                    <Route path="instances/:instance/channels/:channel">
                        <Route index element={<Explorer />} />
                        <Route path="blocks/:number" element={<BlockPage />} />
                        <Route path="transactions/:id" element={<TransactionPage />} />
                        <Route path="search" element={<Search />} />
                    </Route>
                    <Route path="*" element={<Missing />} />
                </Routes>
            </Frame>
        </SessionProvider>
    );
}
