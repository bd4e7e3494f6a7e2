import { render } from 'preact';
import './styles/base.css';
import './styles/shell.css';
import './styles/controls.css';
import './styles/tables.css';
import './styles/audit.css';
import { App } from './app';
import { start } from './lib/session';
import { startTheme } from './lib/theme';

startTheme();
render(<App />, document.getElementById('app')!);
void start();
