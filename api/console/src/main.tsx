import { render } from 'preact';
import './styles/base.css';
import './styles/shell.css';
import './styles/controls.css';
import './styles/tables.css';
import './styles/audit.css';
import { App } from './app';
import { start } from './lib/session';
import { showTexts } from './lib/shown';
import { startTheme } from './lib/theme';

showTexts();
startTheme();
render(<App />, document.getElementById('app')!);
void start();
